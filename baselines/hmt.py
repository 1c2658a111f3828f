"""H-MT: binary-weighted members that may all fire in one step (Zhang et al. 2026; methods.md D8)."""

from baselines.dcgs import Gaussian
from msat.method import Axes, Initial, method
from msat.multithreshold import HybridMultiThreshold
from msat.pooling import BeforeNeuron


@method(
    "Zhang et al. 2026, AAAI (H-MT)",
    recalibrate_per_T=True,
    reconstruction="a ReLU is the positive unit alone; the garbled communication rule is rebuilt from its invariant and off by default;"
    " thresholds by DCGS's iteration for T 2^n levels up to theta, though the bits together reach almost 2 theta.",
)
def hmt(members: int = 4, communicate: bool = False) -> Axes:
    """H-MT: hybrid multi-threshold neurons, n bits a step."""
    return Axes(
        threshold=Gaussian(members),
        neuron=HybridMultiThreshold(members=members, communicate=communicate),
        initial=Initial(0.5 / 2 ** (members - 1)),
        pool=BeforeNeuron(exact=True),
    )
