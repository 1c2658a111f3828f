"""Controls that the MSAT paper lacks: a constant threshold at MSAT's resting value (methods.md A.3), MSAT from half its threshold."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from msat.adaptive import AdaptiveThreshold, resting_fraction
from msat.calibration import Calibration, Site
from msat.method import Axes, Initial, method
from msat.thresholds import Maximum, ThresholdRule

SOURCE = "this benchmark"
Units = Literal["raw", "normalised"]


@dataclass(frozen=True)
class Resting(ThresholdRule):
    """theta = rho(V) V, MSAT's threshold at d = 0 and x = 0; with normalised units rho(1) V."""

    units: Units = "raw"

    def fit(self, calibration: Calibration) -> list[Tensor]:
        maxima = Maximum().fit(calibration)
        return [resting_fraction(self.scaled(V), calibration.adaptive) * V for V in maxima]

    def scaled(self, V: Tensor) -> Tensor:
        """Return V in the units that MSAT sees."""
        return V if self.units == "raw" else torch.ones_like(V)

    def threshold(self, site: Site, steps: int) -> Tensor:
        raise NotImplementedError("MSAT's parameters belong to the network, not to a site; use fit.")


@method(SOURCE, category="control", reconstruction="control that the MSAT paper lacks.")
def msat_rest(units: Units = "raw") -> Axes:
    """Constant threshold at MSAT's resting value."""
    return Axes(threshold=Resting(units))


@method(SOURCE, category="control", reconstruction="control for MSAT in normalised units.")
def msat_rest_normalised() -> Axes:
    """Constant threshold at MSAT's resting value in normalised units."""
    return msat_rest.build(units="normalised")


@method(SOURCE, category="control", reconstruction="an extension: MSAT starts at rest in the paper.")
def msat_half(units: Units = "raw") -> Axes:
    """MSAT with potential starting at half of its first threshold."""
    return Axes(threshold=Maximum(), neuron=AdaptiveThreshold(units=units), initial=Initial(0.5))
