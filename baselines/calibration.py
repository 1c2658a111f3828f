"""SNN Calibration: none, light, advanced, and advanced with weights (Li et al. 2021; methods.md B8).

All modes shift the input. Corrections walk over the first calibration inputs, as many as `msat.walk.VALUES` allows
(64 for VGG16 on 32x32 pixels at T = 32; the authors' code takes one batch).
"""

from msat.calibration import Granularity
from msat.corrections import BiasCalibration, PotentialCalibration
from msat.method import Axes, Correction, method
from msat.thresholds import Maximum, SquaredError, ThresholdRule
from msat.weight_calibration import WeightCalibration

SOURCE = "Li et al. 2021, ICML"
WHOLE_SET = "thresholds from the whole calibration set, not a moving average over batches; corrections from as many of its inputs as fit"


def shifted(threshold: ThresholdRule, *corrections: Correction) -> Axes:
    """Return what all modes share: the IF neuron with input shift."""
    return Axes(threshold=threshold, shift=True, corrections=corrections)


@method(SOURCE, recalibrate_per_T=True, reconstruction=f"{WHOLE_SET}; this makes it the same as Opt.")
def calibration_none(per: Granularity = "layer") -> Axes:
    """SNN Calibration, none: maximum thresholds."""
    return shifted(Maximum(per))


@method(SOURCE, recalibrate_per_T=True, reconstruction=f"{WHOLE_SET}.")
def calibration_light(per: Granularity = "layer") -> Axes:
    """SNN Calibration, light: thresholds of least squared error, biases."""
    return shifted(SquaredError(per), BiasCalibration())


@method(SOURCE, recalibrate_per_T=True, reconstruction=f"{WHOLE_SET}.")
def calibration_advanced(per: Granularity = "layer") -> Axes:
    """SNN Calibration, advanced: thresholds of least squared error, initial potentials."""
    return shifted(SquaredError(per), PotentialCalibration())


@method(
    SOURCE,
    recalibrate_per_T=True,
    reconstruction=f"{WHOLE_SET}; 200 iterations a layer at rate 1e-4 instead of 5,000 at 1e-5.",
)
def calibration_weights(per: Granularity = "layer", iterations: int = 200, rate: float = 1e-4) -> Axes:
    """SNN Calibration, advanced with weights: weights, then initial potentials."""
    return shifted(SquaredError(per), WeightCalibration(iterations, rate), PotentialCalibration())
