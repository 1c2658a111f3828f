"""Constant thresholds: the maximum, a percentile, a fraction of the maximum (methods.md B1-B3) and a half-threshold start (C1)."""

from typing import Literal

from msat.method import Axes, Initial, method
from msat.neurons import IntegrateAndFire
from msat.pooling import pool_rule
from msat.thresholds import Fraction, Maximum, Percentile


@method(
    "Diehl et al. 2015, IJCNN",
    reconstruction="the rule as the field uses it: soft reset, constant input, thresholds instead of normalised weights.",
)
def maximum(reset: Literal["soft", "hard"] = "soft", pool: str = "inhibition") -> Axes:
    """Constant maximum threshold."""
    return Axes(threshold=Maximum(), neuron=IntegrateAndFire(reset=reset), pool=pool_rule(pool))


@method("Diehl et al. 2015, IJCNN")
def maximum_hard() -> Axes:
    """Constant maximum threshold, hard reset."""
    return maximum.build(reset="hard")


@method(
    "Rueckauer et al. 2017, Front. Neurosci. 11:682",
    reconstruction="thresholds instead of normalised weights; max-pools by lateral inhibition instead of a gate.",
)
def percentile(q: float = 99.9, nonzero: bool = True) -> Axes:
    """Percentile of the activations as threshold."""
    return Axes(threshold=Percentile(q, nonzero))


@method("He et al. 2023, arXiv 2303.13080, Fig. 4")
def kappa(fraction: float = 0.5) -> Axes:
    """Fixed fraction of the maximum as threshold."""
    return Axes(threshold=Fraction(fraction))


@method(
    "Bu et al. 2022, AAAI",
    reconstruction="the paper trains a clipped ANN; here the plain ANN with the maximum as threshold.",
)
def half_start() -> Axes:
    """Constant maximum threshold with potential starting at half of it."""
    return Axes(threshold=Maximum(), initial=Initial(0.5))
