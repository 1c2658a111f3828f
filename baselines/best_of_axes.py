"""The best combination that a search of the axes found on calibration data alone (`python -m benchmarks.search DATA`)."""

from baselines.ltb import LocallyBalanced
from msat.method import Axes, Initial, method
from msat.multithreshold import HybridMultiThreshold

BITS = 4


@method(
    "this benchmark",
    reconstruction="our own combination: local threshold balancing (LTB) under the neurons of H-MT, rate-coded, with exact"
    " pools; chosen on training inputs without labels, no test input seen.",
)
def best_of_axes() -> Axes:
    """Best of the axes: locally balanced thresholds, four bits a step, start at half of the smallest."""
    return Axes(
        threshold=LocallyBalanced(),
        neuron=HybridMultiThreshold(members=BITS),
        initial=Initial(0.5 / 2 ** (BITS - 1)),
    )
