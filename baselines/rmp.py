"""RMP-SNN (Han, Srinivasan & Roy 2020; methods.md B4)."""

from msat.method import Axes, method
from msat.neurons import IntegrateAndFire
from msat.thresholds import Fraction, Maximum


@method(
    "Han, Srinivasan & Roy 2020, CVPR",
    reconstruction="no official code; with constant input and maximum thresholds it is the constant maximum with soft reset.",
)
def rmp(beta: float = 1.0) -> Axes:
    """RMP-SNN: soft reset, maximum thresholds scaled by beta."""
    return Axes(threshold=Fraction(beta, Maximum()), neuron=IntegrateAndFire())
