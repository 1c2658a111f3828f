"""RMP-SNN (Han, Srinivasan & Roy 2020; methods.md B4)."""

from typing import Literal

from msat.balancing import Balanced
from msat.method import Axes, method
from msat.neurons import IntegrateAndFire
from msat.thresholds import Fraction, Maximum


@method(
    "Han, Srinivasan & Roy 2020, CVPR",
    reconstruction="no official code; soft reset with Spike-Norm thresholds and constant input (with `balancing=maximum` it is the"
    " constant maximum).",
)
def rmp(beta: float = 1.0, balancing: Literal["spiking", "maximum"] = "spiking") -> Axes:
    """RMP-SNN: soft reset, balanced thresholds scaled by beta."""
    return Axes(
        threshold=Fraction(beta, Balanced() if balancing == "spiking" else Maximum()), neuron=IntegrateAndFire()
    )
