"""Currents of one stage: weights packed for the kernels, and the choice between event lists and a dense convolution."""

import ctypes
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from msat.backends.base import Traffic
from msat.backends.events_cost import Cost
from msat.backends.events_dense import Dense
from msat.backends.events_lists import EventTraffic, channels_last
from msat.backends.events_pack import Floats, pack, per_neuron, reach, runs, with_batch
from msat.backends.events_plan import Chain, Convolution, Expression, Unmatched, plan, spread
from msat.backends.kernels import library
from msat.backends.kernels.structs import NEURONS, PAIR, SCAN, SCATTER, Array, Shortcut, Stage, Term, address, room
from msat.network import SpikingStage

FRAME_BUDGET = 4_000_000
"""Most values in a tensor of currents; beyond it the last-level cache no longer helps."""


class Synapses:
    """The linear expression of one stage.

    Args:
        stage: the stage.
        shapes: one input's neurons for each source.
        scales: value of a binary event by channel for each source; None for graded sources and those without lists.
        shape: one input's neurons of the stage itself.
    """

    def __init__(
        self,
        stage: SpikingStage,
        shapes: Sequence[tuple[int, ...]],
        scales: Sequence[Tensor | None],
        shape: tuple[int, ...],
    ) -> None:
        self.stage, self.scales = stage, scales
        self.offset = None if stage.offset is None else with_batch(stage.offset, len(shape))
        self.shape = spread(shape)
        self.tile = tile_for(shape[0])
        self.tiles = -(-shape[0] // self.tile)
        self.graded = False
        self.weights: dict[int, Array] = {}
        self.chains: tuple[Chain, ...] = ()
        try:
            expression = plan(stage.stage.synapses, shapes)
            self._check(expression)
        except Unmatched:
            return
        self.chains = expression.chains
        self.layers = [(c, c.convolution) for c in self.chains if c.convolution]
        self.graded = any(scales[chain.source] is None for chain, _ in self.layers)
        self.cost = Cost(self.chains, self.shape, self.tile, lanes())
        self.bias, self.bias_step = self._bias(expression, len(shape))
        self.convolve = Dense(expression, self.offset)
        self._link()

    def _check(self, expression: Expression) -> None:
        """Refuse what the kernels' 16-bit columns and channels cannot hold, and shortcuts that broadcast."""
        for chain in expression.chains:
            channels, height, width = chain.shape
            if max(channels, width * chain.pool[1] ** 2) > 65535:
                raise Unmatched("a map too wide for the event codes")
            if not chain.convolution and (chain.extent or channels, height, width) != self.shape:
                raise Unmatched("a shortcut that broadcasts")

    def _bias(self, expression: Expression, dims: int) -> tuple[Floats, int]:
        total = torch.zeros(1, *[1] * dims)
        if expression.bias is not None:
            total = expression.bias.detach().float().view(1, -1, *[1] * (dims - 1))
        if self.offset is not None:
            total = total + self.offset
        return per_neuron(total, self.shape, self.tile)

    def _link(self) -> None:
        """Build the C structs of layers and shortcuts; their sources are filled in for each chunk."""
        self.terms = (Term * len(self.layers))()
        self.cuts = (Shortcut * (len(self.chains) - len(self.layers)))()
        self.kept: list[Array] = []
        self.structs: list[Term | Shortcut] = []
        self.rows = 0
        terms, cuts = iter(self.terms), iter(self.cuts)
        for chain in self.chains:
            if chain.convolution:
                self.structs.append(self._term(next(terms), chain, chain.convolution))
            else:
                cut = next(cuts)
                cut.stride, cut.offset = PAIR(*chain.stride), chain.offset
                cut.scale = address(self.scales[chain.source])
                self.structs.append(cut)

    def _term(self, term: Term, chain: Chain, layer: Convolution) -> Term:
        (low, span), run = reach(layer, self.tile), runs(layer)
        self.kept += [low, run]
        term.kernel, term.stride = PAIR(*layer.kernel), PAIR(*layer.stride)
        term.padding, term.dilation = PAIR(*layer.padding), PAIR(*layer.dilation)
        term.pool, term.size = PAIR(*chain.pool), PAIR(*chain.shape[1:])
        term.reciprocal, term.span, term.row = -(-65536 // chain.pool[1]), span, self.rows
        term.low, term.run = address(low), address(run)
        self.rows += layer.kernel[0] * layer.kernel[1] * span
        return term

    def packed(self, kernel: int) -> Array:
        """Return the weights in a kernel's order, packed when it is first chosen."""
        if kernel not in self.weights:
            # The last row stays zero: it fills up gather's lists.
            self.weights[kernel] = room((self.tiles, self.rows + 1, self.tile), np.float32)
            target = torch.from_numpy(self.weights[kernel])
            for term, (chain, layer) in zip(self.terms, self.layers, strict=True):
                area, value = chain.pool[0] * chain.pool[1], self.scales[chain.source]
                scale = torch.ones(chain.shape[0]) if value is None and area > 1 else value
                height = layer.kernel[0] * layer.kernel[1] * term.span
                pack(
                    target[:, term.row : term.row + height],
                    layer,
                    None if scale is None else scale / area,
                    kernel == SCATTER,
                )
        return self.weights[kernel]

    def prepare(self, job: Stage) -> None:
        """Put what stays the same for all chunks into a job."""
        job.channels, job.height, job.width = self.shape
        job.tile, job.tiles = self.tile, self.tiles
        if self.chains:
            job.terms, job.shortcuts, job.rows = len(self.terms), len(self.cuts), self.rows
            job.term, job.shortcut = self.terms, self.cuts
            job.bias, job.bias_step = address(self.bias), self.bias_step

    def listen(self, sources: Sequence[Traffic]) -> int:
        """Point the terms at the sources' lists and return the kernel to run; SCAN where dense is cheaper or the only way."""
        if not self.chains or not all(isinstance(source, EventTraffic) for source in sources):
            return SCAN
        events = []
        for struct, chain in zip(self.structs, self.chains, strict=True):
            source = sources[chain.source]
            assert isinstance(source, EventTraffic)
            struct.source = source.lists
            events.append(source.events() / (source.batch * source.steps))
        return self.cost.cheapest(events)

    def run(self, job: Stage, neuron: str | ctypes.CDLL, kernel: int) -> None:
        """Run a job by a kernel: on the sources' event lists, or on currents in memory for SCAN.

        The neuron is a key of `structs.NEURONS`, or the library of a written one.
        """
        job.weight = None if kernel == SCAN else address(self.packed(kernel))
        graded, threads = int(self.graded), torch.get_num_threads()
        if isinstance(neuron, str):
            library().run_stage(ctypes.byref(job), NEURONS[neuron], kernel, graded, threads)
        else:
            neuron.run_written(ctypes.byref(job), kernel, graded, threads)

    def dense(self, sources: Sequence[Traffic], begin: int, end: int) -> Tensor:
        """Return the currents of some steps by PyTorch: [end - begin, B, pixels, channels]."""
        lists = [source for source in sources if isinstance(source, EventTraffic)]
        if self.chains and len(lists) == len(sources):
            frames = [source.frames(begin, end) for source in lists]
            steps, batch = frames[0].shape[:2]
            current = self.convolve([frame.flatten(0, 1) for frame in frames])
            return current.view(steps, batch, -1, self.shape[0])
        outputs = [source.output()[begin:end] for source in sources]
        steps, batch = outputs[0].shape[:2]
        current = self.stage.stage.synapses(*(output.flatten(0, 1) for output in outputs))
        if self.stage.offset is not None:
            current = current + self.stage.offset
        return channels_last(current.unflatten(0, (steps, batch))).view(steps, batch, -1, self.shape[0])

    def steps_at_once(self, batch: int) -> int:
        """Return how many steps of dense currents stay in the cache."""
        return max(1, FRAME_BUDGET // (batch * math.prod(self.shape)))


def lanes() -> int:
    """Return the width of this processor's vectors."""
    return int(library().lanes())


def tile_for(channels: int) -> int:
    """Return how many channels one pass computes: at most 8 vectors, as few empty lanes as possible."""
    sizes = [lanes() * n for n in (8, 4, 2, 1)]
    return min(sizes, key=lambda size: -(-channels // size) * size)
