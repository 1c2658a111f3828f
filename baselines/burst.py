"""Burst spikes with lateral-inhibition pooling (Li & Zeng 2022; methods.md B9)."""

from msat.method import Axes, method
from msat.neurons import Burst
from msat.thresholds import Percentile


@method(
    "Li & Zeng 2022, IJCAI",
    reconstruction="percentile and cap of BrainCog; the percentile is taken before any clamping (the authors' script clips activations"
    " in place, BrainCog's at the cap).",
)
def burst(percentile: float = 99.0, cap: int = 5, nonzero: bool = False) -> Axes:
    """Burst: up to five spikes a step, lateral-inhibition pooling.

    BrainCog takes the 99th percentile, zeros included, and `cap=5`; the authors' script 99.9 and `cap=2`.
    """
    return Axes(threshold=Percentile(percentile, nonzero), neuron=Burst(cap=cap))
