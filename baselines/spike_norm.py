"""Spike-Norm, threshold balancing (Sengupta et al. 2019; code of Rathi et al. 2020; methods.md B5)."""

from msat.balancing import Balanced
from msat.method import Axes, method
from msat.neurons import IntegrateAndFire
from msat.thresholds import Fraction


@method(
    "Sengupta et al. 2019, Front. Neurosci. 13:95",
    reconstruction="constant input instead of Poisson spikes, balancing over 256 steps on 128 inputs, max-pools by lateral inhibition.",
)
def spike_norm(scale: float = 1.0, steps: int = 256, strict: bool = True) -> Axes:
    """Spike-Norm: thresholds balanced layer by layer.

    The code spikes strictly above the threshold, and scales by 0.7 where T is short.
    """
    neuron = IntegrateAndFire(strict=strict)
    return Axes(threshold=Fraction(scale, Balanced(steps, neuron)), neuron=neuron)
