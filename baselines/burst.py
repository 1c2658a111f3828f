"""Burst spikes with lateral-inhibition pooling (Li & Zeng 2022; methods.md B9)."""

from msat.method import Axes, method
from msat.neurons import Burst
from msat.thresholds import Percentile


@method(
    "Li & Zeng 2022, IJCAI",
    reconstruction="the percentile is taken before any clamping (the authors' script clips activations in place, BrainCog's at the cap).",
)
def burst(percentile: float = 99.9, cap: int = 5) -> Axes:
    """Burst: up to five spikes a step, lateral-inhibition pooling.

    The authors' script takes percentile 99.9, BrainCog 99 (with `cap=5`).
    """
    return Axes(threshold=Percentile(percentile), neuron=Burst(cap=cap))
