"""CIFAR-10: ten kinds of objects in 32×32 colour pictures; the sample is scikit-learn's digits, tinted."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torchvision.datasets import CIFAR10

from msat.task import Data, ModelSpec, Profile, Published, Task
from tasks.cifar import full_models, load_cifar
from tasks.images import augment_images, normalise
from tasks.models.small import small_models
from tasks.samples.digits import tinted

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Cifar10(Task):
    """Ten classes of 32×32 colour pictures."""

    name = "cifar10"
    title = "CIFAR-10"
    modality: Literal["image"] = "image"
    published = (
        Published("vgg16", "MSAT", 95.45, 95.45, 112, "MSAT (arXiv 2303.13080), Table 3"),
        Published("resnet20", "MSAT", 96.37, 96.36, 174, "MSAT (arXiv 2303.13080), Table 3"),
        Published("vgg16", "Burst", None, 95.75, 256, "MSAT (arXiv 2303.13080), Table 3"),
        Published("resnet20", "Burst", None, 96.59, 256, "MSAT (arXiv 2303.13080), Table 3"),
        Published("vgg16", "RMP-SNN", None, 93.63, 2048, "MSAT (arXiv 2303.13080), Table 3"),
        Published("resnet20-he", "RMP-SNN", None, 91.36, None, "MSAT (arXiv 2303.13080), Table 3"),
        Published("vgg16", "TSC", None, 93.63, None, "MSAT (arXiv 2303.13080), Table 3"),
        Published("resnet20-he", "TSC", None, 91.42, None, "MSAT (arXiv 2303.13080), Table 3"),
        Published("vgg16", "Opt", None, 92.24, 128, "MSAT (arXiv 2303.13080), Table 3"),
        Published("resnet20-he", "Opt", None, 93.56, 128, "MSAT (arXiv 2303.13080), Table 3"),
        Published("vgg16", "Calibration (light)", None, 93.3, 16, "SNN_Calibration, README"),
        Published("vgg16", "Calibration (advanced)", None, 93.65, 16, "SNN_Calibration, README"),
    )

    def models(self, profile: Profile) -> Mapping[str, ModelSpec]:
        """Return VGG16 and both meanings of "ResNet20", or their small versions."""
        return small_models(epochs=4) if profile == "sample" else full_models()

    def load(self, profile: Profile, folder: Path | None) -> Data:
        """Read CIFAR-10, or make tinted digits."""
        return tinted() if profile == "sample" else load_cifar(CIFAR10, self.name, self.title, folder)

    def prepare(self, inputs: Tensor) -> Tensor:
        """uint8 [n, 3, h, w] to normalised float32."""
        return normalise(inputs, MEAN, STD)

    def augment(self, inputs: Tensor, names: Sequence[str], generator: torch.Generator) -> Tensor:
        """Flip, crop, autoaugment and cutout."""
        return augment_images(inputs, names, generator)
