"""Max-pools: among lists of events, or of currents in front of the neurons."""

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msat.backends.base import Traffic
from msat.backends.events_lists import Buffer, EventTraffic, channels_last
from msat.backends.events_pack import Floats, per_neuron, with_batch
from msat.backends.events_plan import spread
from msat.backends.events_stages import Constant, Runner
from msat.backends.events_synapses import Synapses
from msat.backends.events_torch import Currents
from msat.backends.kernels import library
from msat.backends.kernels.structs import PAIR, Lists, Pool, address, room
from msat.coding import DifferentialPool
from msat.errors import UserError
from msat.neurons import Population
from msat.pooling import LateralInhibitionPool, SpikingPool, StepMaximumPool

CURRENT_BUDGET = 1 << 25
"""Most currents in memory at once in front of a pool, whose accounts are read and written once for them: 128 MiB."""
HELD = object()
"""State of a pool whose accounts lie in its runner's buffers."""


def begins(state: Any) -> bool:
    """Return whether a pool begins at rest; if not, its accounts are in its runner's buffers.

    Raises:
        UserError: it begins with the accounts of a warm-up pass.
    """
    if state is None or state is HELD:
        return state is None
    raise UserError(
        "a max-pool begins with the accounts of a warm-up pass, which the events backend cannot take; use BACKEND=folded."
    )


class PoolRunner(Runner):
    """Lateral inhibition among lists: only windows that an event reaches are looked at."""

    def __init__(self, population: LateralInhibitionPool, source: Runner, block: int, shape: tuple[int, ...], output: tuple[int, ...]) -> None:  # fmt: skip
        self.scale, unit = source.scale, population.unit
        self.unit = None if unit is None else self.padded(unit.detach().float().reshape(-1).expand(shape[0]), block)
        windows = population.windows
        self.buffer = Buffer(output, block, graded=self.scale is None, counted=unit is not None)
        self.job = Pool(
            kernel=PAIR(*windows.kernel), stride=PAIR(*windows.stride),
            padding=PAIR(*windows.padding), dilation=PAIR(*windows.dilation),
        )  # fmt: skip
        self.job.unit = address(self.unit)
        kind = np.float32 if self.scale is None and unit is None else np.int32
        self.blank = self.accounts(spread(shape), spread(output), windows).astype(kind)
        self.account: Any = None

    def padded(self, unit: Tensor, block: int) -> Tensor:
        """Return the value of a spike by channel, with ones where the last block is wider than what is left."""
        return torch.cat([unit, unit.new_ones(-len(unit) % block)])

    def accounts(self, shape: tuple[int, int, int], output: tuple[int, int, int], windows: Any) -> np.ndarray:
        """Return empty accounts [pixels, window, 1]: places outside the map are so low that they never win."""
        (_, h, w), (_, high, wide), (kh, kw) = shape, output, windows.kernel
        y = np.arange(high)[:, None] * windows.stride[0] - windows.padding[0] + np.arange(kh) * windows.dilation[0]
        x = np.arange(wide)[:, None] * windows.stride[1] - windows.padding[1] + np.arange(kw) * windows.dilation[1]
        inside = ((y >= 0) & (y < h))[:, None, :, None] & ((x >= 0) & (x < w))[None, :, None, :]
        return np.where(inside.reshape(high * wide, kh * kw, 1), 0.0, -1.0e9)

    def advance(
        self, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        source, batch = sources[0], len(samples)
        assert isinstance(source, EventTraffic)
        if begins(state):
            shape = (batch, self.buffer.blocks, len(self.blank), self.blank.shape[1], self.buffer.block)
            if self.account is None or len(self.account) < batch:
                self.account = room(shape, self.blank.dtype)
            self.account[:batch] = self.blank
        lists = self.buffer.lists(batch, count)
        self.job.source, self.job.out, self.job.begin, self.job.end = source.lists, lists, 0, count
        self.job.account = address(self.account)
        library().run_pool(ctypes.byref(self.job), batch, torch.get_num_threads())
        return EventTraffic(self.buffer, lists, batch, self.scale), HELD


def pools_currents(population: Population) -> bool:
    """Return whether the kernels pool currents as this population does."""
    pool = population.inner if isinstance(population, DifferentialPool) else population
    return (
        isinstance(pool, SpikingPool) and type(pool) in (LateralInhibitionPool, StepMaximumPool) and pool.unit is None
    )


class CurrentPoolRunner(Runner):
    """A max-pool in front of its neuron: over currents, which every window gets at every step; also under differential coding."""

    def __init__(self, synapses: Synapses, population: Any, shape: tuple[int, ...], output: tuple[int, ...], constant: Constant | None) -> None:  # fmt: skip
        self.synapses, self.currents = synapses, Currents(synapses, shape, constant)
        differential = isinstance(population, DifferentialPool)
        pool: SpikingPool = population.inner if differential else population
        windows, tile = pool.windows, synapses.tile
        self.buffer = Buffer(output, tile, graded=True, counted=False)
        (_, height, width), (_, high, wide) = spread(shape), spread(output)
        source = Lists(None, None, None, None, shape[0], height, width, tile, self.buffer.blocks, 0)
        self.job = Pool(
            source=source, kernel=PAIR(*windows.kernel), stride=PAIR(*windows.stride), padding=PAIR(*windows.padding),
            dilation=PAIR(*windows.dilation), forgets=isinstance(pool, StepMaximumPool),
        )  # fmt: skip
        cells = (self.buffer.blocks, high * wide, math.prod(windows.kernel), tile)
        self.rest = [np.zeros(cells, np.float32)]
        if differential:
            bias = with_batch(population.bias, len(shape))
            self.quiet, self.job.quiet_step = per_neuron(bias, spread(shape), tile)
            self.job.quiet = address(self.quiet)
            places = windows.unfold(bias.detach().float().expand(1, *shape).contiguous(), 0.0, output[1:])
            self.rest += [by_place(places[0], tile), np.zeros((*cells[:2], tile), np.float32)]
        self.arrays: list[Floats] = []

    def advance(
        self, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        batch, job = len(samples), self.job
        if begins(state):
            if not self.arrays or len(self.arrays[0]) < batch:
                self.arrays = [room((batch, *rest.shape), np.float32) for rest in self.rest]
            for array, rest in zip(self.arrays, self.rest, strict=True):
                array[:batch] = rest
        lists = self.buffer.lists(batch, count)
        job.out, job.batch, job.first = lists, batch, first
        job.account, job.e_in, job.e_out = [address(array) for array in self.arrays] + [None] * (3 - len(self.arrays))
        varying = self.currents.constant is None
        size = max(1, CURRENT_BUDGET // (batch * math.prod(self.currents.shape))) if varying else count
        for job.begin, job.end, currents in self.currents.parts(sources, batch, first, count, size):
            laid = channels_last(currents if varying else currents[:1])
            job.current, job.current_time = address(laid), laid[0].numel() if varying else 0
            library().run_pool(ctypes.byref(job), batch, torch.get_num_threads())
        return EventTraffic(self.buffer, lists, batch, None), HELD


def by_place(values: Tensor, tile: int) -> Floats:
    """Lay out values of windows [C, window size, windows] as [tiles, windows, window size, tile]."""
    channels, size, windows = values.shape
    packed = np.zeros((-(-channels // tile) * tile, size, windows), np.float32)
    packed[:channels] = values.numpy()
    return np.ascontiguousarray(packed.reshape(-1, tile, size, windows).transpose(0, 3, 2, 1))
