"""Calibration-style threshold search (Li et al. 2021; methods.md B8, without bias or potential calibration)."""

from msat.calibration import Granularity
from msat.method import Axes, method
from msat.thresholds import SquaredError


@method(
    "Li et al. 2021, ICML",
    recalibrate_per_T=True,
    reconstruction="threshold search over the whole calibration set, not a moving average.",
)
def mmse(per: Granularity = "layer") -> Axes:
    """Thresholds of least squared error for each T, with input shift."""
    return Axes(threshold=SquaredError(per), shift=True)
