"""Double threshold with augmented spikes (Yu et al. 2021; methods.md C5)."""

from msat.method import Axes, method
from msat.signed import SignedIntegrateAndFire
from msat.thresholds import Percentile


@method(
    "Yu et al. 2021, IEEE TNNLS",
    reconstruction="paper not readable; negative spikes are gated by what was sent, as ReLU needs, and a spike carries a count of at most `cap`.",
)
def double_threshold(percentile: float = 99.9, cap: int = 4) -> Axes:
    """Double threshold with augmented spikes; `cap=1` leaves the augmentation out."""
    return Axes(threshold=Percentile(percentile), neuron=SignedIntegrateAndFire(cap=cap))
