"""What a stage costs by each kernel for the events at hand, so that the cheapest runs; fitted to `python -m benchmarks.speed`.

Nanoseconds on one core with AVX-512; only their ratios matter, and they are much the same on narrower machines, where event
kernels and dense convolutions slow down together.
"""

from collections.abc import Sequence

from msat.backends.events_plan import Chain
from msat.backends.kernels.structs import GATHER, SCAN, SCATTER

PIXEL = {GATHER: (38.0, 4.0), SCATTER: (8.0, 4.0)}
"""Of each output pixel and step, whatever arrives: once, and for each vector of channels."""
ROW = {GATHER: (0.15, 0.6), SCATTER: (0.0, 1.0)}
"""Of each weight row that is added: once, and for each vector."""
MAC = (0.4, 6.4)
"""Of a dense convolution, for a vector of multiply-accumulates: once, and divided by the channels, for narrow layers run slower."""
VALUE = 0.3
"""Of each input value that a dense convolution reads, for it has to be written first."""
SHORTCUT = 2.0
"""Of each event of an identity shortcut."""


class Cost:
    """The cost of one stage.

    Args:
        chains: what feeds the stage.
        shape: channels, height, width of its neurons.
        tile: channels that a kernel computes at once.
        lanes: values in a vector.
    """

    def __init__(self, chains: Sequence[Chain], shape: tuple[int, int, int], tile: int, lanes: int) -> None:
        self.chains, self.lanes = chains, lanes
        channels, height, width = shape
        self.pixels, self.tiles, self.vectors = height * width, -(-channels // tile), tile / lanes
        self.allowed = [GATHER, SCATTER] if self._scatters() else [GATHER]

    def _scatters(self) -> bool:
        """Scatter wants few channels (more do not pay) and windows without holes."""
        layers = [chain.convolution for chain in self.chains if chain.convolution]
        fits = all(layer.dilation[1] == 1 and layer.kernel[0] <= 64 for layer in layers)
        return bool(layers) and fits and self.vectors <= 4

    def cheapest(self, events: Sequence[float]) -> int:
        """Return the kernel for this many events of each chain per input and step; SCAN stands for a dense pass."""
        costs = {kernel: self.listening(kernel, events) for kernel in self.allowed}
        if any(chain.convolution for chain in self.chains):
            costs[SCAN] = self.dense()
        return min(costs, key=costs.__getitem__)

    def listening(self, kernel: int, events: Sequence[float]) -> float:
        """Return the nanoseconds of one input and step on event lists."""
        once, each = PIXEL[kernel]
        total = self.pixels * self.tiles * (once + each * self.vectors)
        once, each = ROW[kernel]
        for count, chain in zip(events, self.chains, strict=True):
            rows = SHORTCUT if chain.convolution is None else self._reach(chain) * (once + each * self.vectors)
            total += count * rows
        return total

    def _reach(self, chain: Chain) -> float:
        """Return how many weight rows an event adds, over all tiles."""
        layer = chain.convolution
        assert layer is not None
        taps = layer.kernel[0] * layer.kernel[1] / (layer.stride[0] * layer.stride[1])
        return min(taps, self.pixels) * max(1.0, self.tiles / layer.groups)

    def dense(self) -> float:
        """Return the nanoseconds of one input and step by a dense convolution."""
        total = 0.0
        for chain in self.chains:
            channels, height, width = chain.shape
            total += VALUE * channels * height * width * chain.pool[0] * chain.pool[1]
            if chain.convolution:
                weight = chain.convolution.weight
                each = MAC[0] + MAC[1] / min(weight.shape[0], channels)
                total += each / self.lanes * weight.numel() * self.pixels
        return total
