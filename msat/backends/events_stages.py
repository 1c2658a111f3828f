"""One stage under the event backend: fused with its neuron, through the neuron's PyTorch step, or as a pool of lists or currents."""

import ctypes
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from msat.backends.base import DenseTraffic, Traffic
from msat.backends.events_lists import Buffer, EventTraffic, channels_first, channels_last
from msat.backends.events_neurons import Fusion
from msat.backends.events_pack import Floats, by_tile, per_neuron, with_batch
from msat.backends.events_plan import spread
from msat.backends.events_synapses import Synapses
from msat.backends.events_write import AHEAD, WrittenNeuron
from msat.backends.kernels import library
from msat.backends.kernels.structs import PAIR, SCAN, Lists, Pool, Stage, address, room
from msat.backends.trees import changed
from msat.coding import DifferentialPool
from msat.errors import UserError
from msat.network import Readout
from msat.neurons import Emission, Population
from msat.pooling import LateralInhibitionPool, SpikingPool, StepMaximumPool

SLICE_BUDGET = 1 << 16
"""Most neurons of a slice for each thread, beyond one input: half a dozen tensors of that many values fit a second-level cache."""
CURRENT_BUDGET = 1 << 25
"""Most currents in memory at once in front of a pool, whose accounts are read and written once for them: 128 MiB."""


@dataclass(frozen=True)
class Constant:
    """Current of a stage that no spike reaches: the same at every step, or there at step 1 only (differential coding)."""

    current: Callable[[Sequence[Traffic]], Tensor]
    """Returns it for the batch at hand, [B, ...]."""
    once: bool

    def parts(self, sources: Sequence[Traffic], first: int, count: int) -> Iterator[tuple[int, int, Tensor]]:
        """Yield the current [B, ...] of steps begin .. end of a chunk."""
        current = self.current(sources)
        now = min(count, 1 if first == 0 else 0) if self.once else count
        if now:
            yield 0, now, current
        if now < count:
            yield now, count, torch.zeros_like(current)


class Runner(ABC):
    """Advances one stage; `scale` is the value of its events by channel, None where each has its own."""

    scale: Tensor | None = None

    @abstractmethod
    def advance(
        self, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        """Run `count` steps after the first `first`; see `Session.advance`."""


class FusedState(NamedTuple):
    """State inside the kernels' buffers, which the next chunk changes in place."""

    arrays: tuple[Floats, ...]
    t: int


class FusedRunner(Runner):
    """Synapses, neuron and compaction in one pass over a chunk.

    Args:
        synapses: what feeds the neurons.
        fusion: the neuron as the kernels take it.
        shape: one input's neurons.
        constant: current of a constant stage, else None.
    """

    def __init__(self, synapses: Synapses, fusion: Fusion, shape: tuple[int, ...], constant: Constant | None) -> None:
        self.synapses, self.fusion, self.constant = synapses, fusion, constant
        self.kernel = fusion.kernel
        self.extent, tile = spread(shape), synapses.tile
        self.theta, theta_step = per_neuron(with_batch(fusion.theta, len(shape)), self.extent, tile, fill=1.0)
        self.quiet, quiet_step = per_neuron(with_batch(fusion.quiet, len(shape)), self.extent, tile)
        zeros = torch.zeros(1, *shape)
        self.rest = [per_neuron(state + zeros, self.extent, tile)[0] for state in fusion.rest]
        if fusion.binary:
            self.scale = torch.from_numpy(self.theta.reshape(-1)[: shape[0]].copy())
        self.buffer = Buffer(shape, tile, graded=self.scale is None, counted=fusion.counted)
        self.arrays: list[Floats] = []
        self.job = Stage(theta=address(self.theta), theta_step=theta_step)
        synapses.prepare(self.job)
        if fusion.adaptive:
            self.job.adaptive = fusion.adaptive
        if fusion.levels:
            self.job.levels = fusion.levels
            self.job.levels.quiet, self.job.levels.quiet_step = address(self.quiet), quiet_step

    def start(self, state: Any, samples: Tensor) -> FusedState:
        """Return the start state in the kernels' layout: at rest, or what a warm-up pass left."""
        batch, tile = len(samples), self.synapses.tile
        if not self.arrays or len(self.arrays[0]) < batch:
            self.arrays = [room((batch, *rest.shape), np.float32) for rest in self.rest]
        arrays = tuple(array[:batch] for array in self.arrays)
        begin = self.rest if state is None else [by_tile(value, self.extent, tile) for value in self.fusion.read(state)]
        for array, value in zip(arrays, begin, strict=True):
            array[...] = value
        return FusedState(arrays, getattr(state, "t", 0))

    def advance(
        self, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        held = state if isinstance(state, FusedState) else self.start(state, samples)
        job, batch = self.job, len(samples)
        traffic = self.aim(held, samples, count)
        if self.constant:
            for job.begin, job.end, current in self.constant.parts(sources, first, count):
                self.scan(channels_last(current.unsqueeze(0)), False)
        elif (kernel := self.synapses.listen(sources)) != SCAN:
            self.synapses.run(job, self.kernel, kernel)
        else:
            size = self.synapses.steps_at_once(batch)
            for begin in range(0, count, size):
                job.begin, job.end = begin, min(begin + size, count)
                self.scan(self.synapses.dense(sources, job.begin, job.end), True)
        return traffic, held._replace(t=held.t + count)

    def aim(self, held: FusedState, samples: Tensor, count: int) -> EventTraffic:
        """Point the job at the states and at the lists of a chunk, and return what will be sent."""
        job, batch = self.job, len(samples)
        lists = self.buffer.lists(batch, count)
        job.batch, job.begin, job.end, job.first, job.out = batch, 0, count, held.t, lists
        for number, array in enumerate(held.arrays):
            job.state[number] = address(array)
        job.adaptive.samples = address(samples)
        return EventTraffic(self.buffer, lists, batch, self.scale)

    def scan(self, currents: Tensor, varying: bool) -> None:
        """Feed currents [T or 1, B, pixels, C] to the neurons, of each step or the same at every one."""
        self.job.current, self.job.current_time = currents.data_ptr(), currents[0].numel() if varying else 0
        self.synapses.run(self.job, self.kernel, SCAN)


NOISE, AGREEING = 2e-5, 0.99
"""Difference that is rounding, as a share of the greatest output; least share of neurons without a greater one."""


class WrittenRunner(FusedRunner):
    """The same with a kernel that is written from the neuron's PyTorch step."""

    def __init__(self, synapses: Synapses, neuron: WrittenNeuron, shape: tuple[int, ...], constant: Constant | None) -> None:  # fmt: skip
        super().__init__(synapses, neuron.fusion(), shape, constant)
        self.neuron = neuron

    def agrees(self) -> bool:
        """Return whether the kernel sends what the population's own steps send, on random currents of three inputs.

        Some spikes may differ, since exponentials are rounded otherwise.
        """
        population, samples = self.neuron.population, torch.tensor([3, 0, 8])
        size = float(population.threshold.abs().mean())
        make = torch.Generator().manual_seed(0)
        currents = size * torch.randn(AHEAD, len(samples), *self.neuron.shape, generator=make)
        expected, _ = population.scan(currents, population.start(currents[0], samples))
        held = self.start(None, samples)
        self.kernel = self.neuron.prepare(self.job, 0, AHEAD)
        traffic = self.aim(held, samples, AHEAD)
        self.scan(channels_last(currents), True)
        most = expected.output.abs().max()
        same = ((traffic.output() - expected.output).abs() <= NOISE * most) & (traffic.spikes() == expected.spikes())
        return float(same.all(0).float().mean()) >= AGREEING

    def start(self, state: Any, samples: Tensor) -> FusedState:
        begin = self.neuron.at_rest(samples) if state is None else state
        self.neuron.restart(begin)
        return super().start(begin, samples)._replace(t=0)

    def advance(
        self, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        held = state if isinstance(state, FusedState) else self.start(state, samples)
        self.kernel = self.neuron.prepare(self.job, held.t, count)
        return super().advance(sources, held, samples, first, count)


class Currents:
    """Currents of one stage in memory, for what takes them from there.

    Args:
        synapses: their linear expression.
        shape: one input's neurons.
        constant: current of a constant stage, else None.
    """

    def __init__(self, synapses: Synapses, shape: tuple[int, ...], constant: Constant | None) -> None:
        self.synapses, self.shape, self.constant = synapses, shape, constant
        self.job = Stage()
        synapses.prepare(self.job)

    def parts(
        self, sources: Sequence[Traffic], batch: int, first: int, count: int, size: int
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Yield currents of steps begin .. end of a chunk, at most `size` of them at once.

        They are [T, B, ...] with the channels last in memory; a constant is expanded over T.
        """
        if self.constant:
            for start, stop, current in self.constant.parts(sources, first, count):
                for begin in range(start, stop, size):
                    end = min(begin + size, stop)
                    yield begin, end, current.expand(end - begin, *current.shape)
            return
        kernel = self.synapses.listen(sources)
        for begin in range(0, count, size):
            end = min(begin + size, count)
            dense = kernel == SCAN
            currents = self.synapses.dense(sources, begin, end) if dense else self.gathered(kernel, batch, begin, end)
            yield begin, end, channels_first(currents, self.shape)

    def gathered(self, kernel: int, batch: int, begin: int, end: int) -> Tensor:
        """Return currents by the event kernels: [T, B, pixels, C]."""
        job = self.job
        sink = torch.empty(end - begin, batch, job.height * job.width, job.channels)
        job.batch, job.begin, job.end, job.sink = batch, begin, end, sink.data_ptr()
        self.synapses.run(job, "current", kernel)
        return sink


class TorchRunner(Runner):
    """Event synapses, then the population's own PyTorch code, then its outputs as lists; a readout stays dense.

    The population's steps run on few inputs at a time, so that what its operations pass to each other stays in the cache.
    """

    def __init__(self, synapses: Synapses, population: Any, shape: tuple[int, ...], output: tuple[int, ...], constant: Constant | None) -> None:  # fmt: skip
        self.synapses, self.population, self.shape, self.output = synapses, population, shape, output
        self.currents = Currents(synapses, shape, constant)
        self.silent = isinstance(synapses.stage.stage.rule, Readout)
        self.buffers: dict[bool, Buffer] = {}

    def advance(
        self, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        batch = len(samples)
        size = count if self.silent else self.synapses.steps_at_once(batch)
        traffic: EventTraffic | None = None
        for begin, _, currents in self.currents.parts(sources, batch, first, count, size):
            if self.silent:
                state = self.population.start(currents[0], samples) if state is None else state
                emission, state = self.population.scan(currents, state)
                return DenseTraffic(emission), state
            laid = currents.contiguous() if isinstance(self.population, SpikingPool) else currents
            emission, state = self.scan(laid, state, samples)
            traffic = self.compact(emission, traffic, batch, begin, count)
        assert traffic is not None
        return traffic, state

    def scan(self, currents: Tensor, state: Any, samples: Tensor) -> tuple[Emission, "SlicedState"]:
        """Return outputs and spike counts of a chunk [T, B, ...], each with its channels last in memory."""
        batch = len(samples)
        if not isinstance(state, SlicedState):
            state = self.sliced(currents[0], state, samples)
        output, events, parts = self.frames(len(currents), batch), None, []
        for part, begin in zip(state.parts, range(0, batch, state.size), strict=True):
            own = slice(begin, min(begin + state.size, batch))
            for t, current in enumerate(currents[:, own]):
                emission, part = self.population.step(current, part)
                output[t, own] = emission.output
                if emission.events is not None:
                    events = self.frames(len(currents), batch) if events is None else events
                    events[t, own] = emission.events
            parts.append(part)
        return Emission(output, events), SlicedState(tuple(parts), state.size)

    def sliced(self, current: Tensor, state: Any, samples: Tensor) -> "SlicedState":
        """Return the start state by slices of inputs: at rest, or what a warm-up pass left."""
        batch = len(samples)
        size = max(1, SLICE_BUDGET * torch.get_num_threads() // math.prod(self.shape))
        slices = [slice(begin, min(begin + size, batch)) for begin in range(0, batch, size)]
        if state is None:
            return SlicedState(tuple(self.population.start(current[own], samples[own]) for own in slices), size)
        return SlicedState(tuple(changed(state, partial(_of_inputs, own, batch)) for own in slices), size)

    def frames(self, steps: int, batch: int) -> Tensor:
        """Return room for the outputs of some steps [T, B, ...], the channels last in memory."""
        return channels_first(torch.empty(steps, batch, *self.output[1:], self.output[0]), self.output)

    def compact(
        self, emission: Emission, traffic: EventTraffic | None, batch: int, begin: int, count: int, image: int = 0
    ) -> EventTraffic:
        """Add the outputs of steps begin .. end, of the inputs from number `image` on, to the chunk's lists."""
        counted = emission.events is not None
        if traffic is None:
            buffer = self.buffers.setdefault(counted, Buffer(self.output, self.synapses.tile, True, counted))
            traffic = EventTraffic(buffer, buffer.lists(batch, count), batch, None)
        traffic.record(begin, emission.output, emission.events, image)
        return traffic


def _of_inputs(own: slice, batch: int, value: Tensor) -> Tensor:
    """Return a state of some inputs of a batch; what is the same for all has no axis for them."""
    return value[own] if value.dim() and len(value) == batch else value


class SlicedState(NamedTuple):
    """A population's states, one for each slice of `size` inputs."""

    parts: tuple[Any, ...]
    size: int


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
