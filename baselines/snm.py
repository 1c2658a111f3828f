"""SNM: signed neuron with memory and neuron-wise thresholds (Wang et al. 2022; methods.md C8)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from msat.calibration import Site, maximum
from msat.method import Axes, method
from msat.signed import SignedIntegrateAndFire
from msat.thresholds import Percentile, ThresholdRule


@dataclass(frozen=True)
class NeuronNorm(ThresholdRule):
    """theta = each neuron's own maximum; a neuron that was never active gets the layer's q-th percentile."""

    q: float = 99.9

    def threshold(self, site: Site, steps: int) -> Tensor:
        own = maximum(site.a, "neuron")
        return torch.where(own > 0, own, Percentile(self.q).threshold(site, steps))


@method(
    "Wang et al. 2022, IJCAI",
    reconstruction="thresholds from calibration inputs only (the authors' code also reads test images); a percentile where a neuron was silent;"
    " in strict energy a spike is a multiply-accumulate (an accumulate in the paper), for its value differs among the neurons of a channel.",
)
def snm(percentile: float = 99.9) -> Axes:
    """Signed neuron with memory, neuron-wise thresholds."""
    return Axes(threshold=NeuronNorm(percentile), neuron=SignedIntegrateAndFire())
