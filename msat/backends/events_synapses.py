"""Currents of one stage: weights packed for the kernels, and the choice between event lists and a dense convolution."""

import ctypes
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from msat.backends.base import Traffic
from msat.backends.events_lists import EventTraffic
from msat.backends.events_pack import Floats, Packed, per_neuron
from msat.backends.events_plan import Chain, Expression, Unmatched, plan, spread
from msat.backends.kernels import library
from msat.backends.kernels.structs import GATHER, NEURONS, PAIR, SCAN, SCATTER, Shortcut, Stage, Term, address
from msat.network import SpikingStage

FRAME_BUDGET = 4_000_000
"""Most values in a tensor of currents; beyond it the last-level cache no longer helps (performance.md 1-2)."""

SCATTER_CHANNELS = 64

# Cost of the kernels in cycles (benchmarks/speed measures them; only ratios matter).
ROW, ROW_VECTOR, PIXEL, DENSE = 2.0, 1.8, 60.0, 1.25


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
        self.channels, self.height, self.width = self.shape = spread(shape)
        self.tile = tile_for(self.channels)
        self.tiles = -(-self.channels // self.tile)
        self.packed: Packed | None = None
        self.kernel = SCAN
        try:
            expression = plan(stage.stage.synapses, shapes)
            self._check(expression, shape)
        except Unmatched:
            return
        self.kernel = SCATTER if self._short(expression) else GATHER
        self.packed = Packed(expression, scales, self.channels, self.tile, self.kernel == SCATTER)
        self.bias, self.bias_step = self._bias(expression, len(shape))
        self.graded = any(scales[chain.source] is None for chain in self.packed.terms)
        self.dense_cost = DENSE / lanes() * sum(self._macs(chain) for chain in self.packed.terms)
        self._links()

    def _check(self, expression: Expression, shape: tuple[int, ...]) -> None:
        """Refuse what the kernels' 16-bit columns and channels cannot hold, and a shape that the chains do not make."""
        for chain in expression.chains:
            height, width = chain.shape[1:]
            if max(chain.shape[0], width * chain.pool[1] ** 2) > 65535 or (height > 1) > (
                len(shape) > 2 or chain.dims < 2
            ):
                raise Unmatched("a map too wide for the event codes")
            if not chain.convolution and (chain.extent or chain.shape[0], height, width) != self.shape:
                raise Unmatched("a shortcut that broadcasts")

    def _short(self, expression: Expression) -> bool:
        """Return whether to scatter: few channels, so that lists are short, and windows of several pixels."""
        layers = [chain.convolution for chain in expression.chains if chain.convolution]
        narrow = self.tile <= 4 * lanes() and self.channels <= SCATTER_CHANNELS
        return (
            narrow
            and any(layer.kernel != (1, 1) for layer in layers)
            and all(layer.dilation[1] == 1 and layer.kernel[0] <= 64 for layer in layers)
        )

    def _bias(self, expression: Expression, dims: int) -> tuple[Floats, int]:
        total = torch.zeros(1, *[1] * dims)
        if expression.bias is not None:
            total = expression.bias.detach().float().view(1, -1, *[1] * (dims - 1))
        if self.stage.offset is not None:
            total = total + self.stage.offset
        return per_neuron(total, self.shape, self.tile)

    def _macs(self, chain: Chain) -> int:
        assert chain.convolution is not None
        return chain.convolution.weight.numel() * self.height * self.width

    def _links(self) -> None:
        """Build the C structs of terms and shortcuts; their sources are filled in for each chunk."""
        assert self.packed is not None
        self.terms = (Term * max(1, len(self.packed.terms)))()
        p = self.packed
        for term, chain, span, first, low, run in zip(
            self.terms, p.terms, p.spans, p.first, p.lows, p.runs, strict=False
        ):
            layer = chain.convolution
            assert layer is not None
            term.kernel, term.stride = PAIR(*layer.kernel), PAIR(*layer.stride)
            term.padding, term.dilation = PAIR(*layer.padding), PAIR(*layer.dilation)
            term.pool, term.size = PAIR(*chain.pool), PAIR(*chain.shape[1:])
            term.reciprocal = -(-65536 // chain.pool[1])
            term.span, term.row, term.low, term.run = span, int(first), address(low), address(run)
        self.cuts = (Shortcut * max(1, len(self.packed.shortcuts)))()
        self.values = [self.scales[chain.source] for chain in self.packed.shortcuts]
        for cut, chain, value in zip(self.cuts, self.packed.shortcuts, self.values, strict=False):
            cut.stride, cut.offset, cut.scale = PAIR(*chain.stride), chain.offset, address(value)

    def prepare(self, job: Stage) -> None:
        """Put what stays the same for all chunks into a job."""
        job.channels, job.height, job.width = self.shape
        job.tile, job.tiles = self.tile, self.tiles
        if self.packed:
            job.terms, job.shortcuts, job.rows = len(self.packed.terms), len(self.packed.shortcuts), self.packed.rows
            job.term, job.shortcut = self.terms, self.cuts
            job.weight, job.bias, job.bias_step = address(self.packed.weight), address(self.bias), self.bias_step

    def listen(self, sources: Sequence[Traffic]) -> bool:
        """Point the terms at the sources' lists; False where a dense pass is cheaper or the only way."""
        if not self.packed or not all(isinstance(source, EventTraffic) for source in sources):
            return False
        cost = 0.0
        for structs, chains in ((self.terms, self.packed.terms), (self.cuts, self.packed.shortcuts)):
            for struct, chain in zip(structs, chains, strict=False):
                source = sources[chain.source]
                assert isinstance(source, EventTraffic)
                struct.source = source.lists
                cost += self._cost(source.events() / (source.batch * source.steps), chain)
        return not self.packed.terms or cost + PIXEL * self.tiles * self.height * self.width < self.dense_cost

    def _cost(self, events: float, chain: Chain) -> float:
        """Return the cycles that these events of one step and input cost."""
        layer = chain.convolution
        if layer is None:
            return events * 4
        reached = layer.kernel[0] * layer.kernel[1] / (layer.stride[0] * layer.stride[1])
        reached = min(reached, self.height * self.width)
        tiles = max(1.0, self.tiles / layer.groups)
        return events * reached * tiles * (ROW + ROW_VECTOR * self.tile / lanes())

    def run(self, job: Stage, neuron: str, source: int | None = None) -> None:
        """Run a job on event lists, or on currents in memory for the source SCAN."""
        source = self.kernel if source is None else source
        graded = self.packed is not None and self.graded
        library().run_stage(ctypes.byref(job), NEURONS[neuron], source, int(graded), torch.get_num_threads())

    def dense(self, sources: Sequence[Traffic], begin: int, end: int) -> Tensor:
        """Return the currents of some steps by PyTorch: [end - begin, B, ...]."""
        frames = [
            source.frames(begin, end) if isinstance(source, EventTraffic) else source.output()[begin:end]
            for source in sources
        ]
        steps, batch = frames[0].shape[:2]
        current = self.stage.stage.synapses(*(frame.flatten(0, 1) for frame in frames))
        if self.stage.offset is not None:
            current = current + self.stage.offset
        return current.view(steps, batch, *current.shape[1:])

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


def channels_first(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a view of [T, B, pixels, C] as [T, B, C, ...] for one input's neurons of this shape."""
    spatial = shape[1:]
    laid = x.view(*x.shape[:2], *spatial, shape[0])
    return laid.permute(0, 1, laid.dim() - 1, *range(2, laid.dim() - 1))
