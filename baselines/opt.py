"""Opt: optimal conversion by an input shift (Deng & Gu 2021; methods.md B7)."""

from msat.method import Axes, method
from msat.thresholds import Maximum


@method(
    "Deng & Gu 2021, ICLR",
    recalibrate_per_T=True,
    reconstruction="the paper trains a clipped ANN and leaves the sum of a residual block unshifted; here the plain ANN, every site shifted.",
)
def opt() -> Axes:
    """Opt: constant maximum threshold with input shift."""
    return Axes(threshold=Maximum(), shift=True)
