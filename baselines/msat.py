"""MSAT and its ablations (arXiv 2303.13080; methods.md A)."""

from typing import Literal

from msat.adaptive import AdaptiveThreshold
from msat.corrections import EstimateConfidence
from msat.method import Axes, method
from msat.thresholds import Maximum

SOURCE = "He et al. 2023, arXiv 2303.13080 (MSAT)"


@method(SOURCE)
def msat(
    units: Literal["raw", "normalised"] = "raw", dtt: bool = True, det: bool = True, det_input: Literal["x", "dm"] = "x"
) -> Axes:
    """Multi-stage adaptive threshold."""
    return Axes(threshold=Maximum(), neuron=AdaptiveThreshold(units=units, dtt=dtt, det=det, det_input=det_input))


@method(
    SOURCE,
    stochastic=True,
    reconstruction="p is estimated on calibration data; the authors' code uses test images.",
)
def msat_sc(
    units: Literal["raw", "normalised"] = "raw",
    reset: Literal["sent", "gated"] = "sent",
    dtt: bool = True,
    det: bool = True,
) -> Axes:
    """Multi-stage adaptive threshold with spike confidence; without both terms spike confidence alone."""
    neuron = AdaptiveThreshold(units=units, dtt=dtt, det=det)
    return Axes(neuron=neuron, corrections=(EstimateConfidence(reset=reset),))


@method(SOURCE, reconstruction="the intent of the BrainCog port: each layer divided by its maximum first.")
def msat_normalised() -> Axes:
    """Multi-stage adaptive threshold in units of the layer's maximum."""
    return msat.build(units="normalised")


@method(SOURCE)
def dtt() -> Axes:
    """MSAT with the dynamic (potential) term only."""
    return msat.build(det=False)


@method(SOURCE)
def det() -> Axes:
    """MSAT with the input term only."""
    return msat.build(dtt=False)
