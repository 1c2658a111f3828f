"""Published results of methods that train or fine-tune the ANN: printed in a section of their own, never run, never ranked.

QCFS, SRP, COS and group neurons need an ANN with quantised activations (methods.md C2, D5-D7), DIET-SNN trains leaks
and thresholds by backpropagation (C9). Dual-phase (Wang et al. 2022, arXiv 2205.07473; C7) fine-tunes a quantised ANN;
its figures could not be read, so it has no row.
"""

from dataclasses import dataclass

from msat.task import Published


@dataclass(frozen=True)
class Reference:
    """A published row of one task."""

    dataset: str
    """Name of the task."""
    row: Published


def _curve(
    dataset: str, model: str, method: str, ann: float | None, curve: dict[int, float], source: str
) -> list[Reference]:
    return [Reference(dataset, Published(model, method, ann, snn, steps, source)) for steps, snn in curve.items()]


QCFS = "Bu et al. 2022, ICLR; README of ANN_SNN_QCFS"
REFERENCE: tuple[Reference, ...] = (
    *_curve("cifar10", "vgg16", "QCFS", None, {2: 90.94, 4: 94.01, 8: 95.01}, QCFS),
    *_curve("cifar100", "vgg16", "QCFS", None, {2: 64.89, 4: 70.42, 8: 74.63, 64: 77.70}, QCFS),
    *_curve("imagenet", "resnet34", "QCFS", 74.32, {64: 72.35}, QCFS),
    *_curve("imagenet", "vgg16", "QCFS", 74.29, {64: 72.85}, QCFS),
    *_curve("imagenet", "vgg16", "DIET-SNN", None, {5: 69.0}, "Rathi & Roy 2021, IEEE TNNLS, abstract"),
    *_curve(
        "cifar100", "vgg16", "SRP on QCFS", 76.28, {1: 71.52, 2: 74.31, 4: 75.42, 8: 76.25}, "Hao et al. 2023, AAAI"
    ),
    *_curve(
        "cifar100", "vgg16", "COS on QCFS", 76.28, {1: 74.24, 2: 76.03, 4: 76.26, 8: 76.52}, "Hao et al. 2023, ICLR"
    ),
    *_curve(
        "imagenet", "resnet34", "SRP on QCFS", 74.32, {1: 57.78, 2: 64.32, 4: 66.71, 8: 67.62}, "Hao et al. 2023, AAAI"
    ),
    *_curve(
        "imagenet", "resnet34", "COS on QCFS", 74.32, {1: 69.11, 2: 72.66, 4: 73.81, 8: 74.17}, "Hao et al. 2023, ICLR"
    ),
    *_curve(
        "imagenet", "resnet34", "Group neuron on QCFS", 74.35, {2: 73.61, 8: 73.57}, "Lv et al. 2024, arXiv 2402.19061"
    ),
)
