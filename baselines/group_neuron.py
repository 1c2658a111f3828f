"""Group neuron: m members with thresholds j theta/m (Lv et al. 2024; methods.md D7), which is a burst neuron of theta/m."""

from msat.method import Axes, Initial, method
from msat.neurons import Burst
from msat.thresholds import Fraction, Percentile


@method(
    "Lv et al. 2024, ICASSP",
    reconstruction="the paper converts quantised (QCFS) networks; here the plain ANN with a percentile as threshold.",
)
def group_neuron(members: int = 4, q: float = 99.9) -> Axes:
    """Group neuron: up to m spikes of theta/m a step."""
    return Axes(threshold=Fraction(1 / members, Percentile(q)), neuron=Burst(cap=members), initial=Initial(0.5))
