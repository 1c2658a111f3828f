"""CIFAR-100: a hundred kinds of objects in 32×32 colour pictures; the sample is pairs of digits, 00 to 99."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torchvision.datasets import CIFAR100

from msat.task import Data, ModelSpec, Profile, Published, Task
from tasks.cifar import full_models, load_cifar
from tasks.images import augment_images, normalise
from tasks.models.small import small_models
from tasks.samples.digits import pairs

MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)


class Cifar100(Task):
    """A hundred classes of 32×32 colour pictures."""

    name = "cifar100"
    title = "CIFAR-100"
    modality: Literal["image"] = "image"
    published = (
        Published("vgg16", "MSAT", 78.49, 78.5, 224, "MSAT (arXiv 2303.13080), Table 3"),
        Published("resnet20", "MSAT", 80.69, 80.7, 252, "MSAT (arXiv 2303.13080), Table 3"),
        Published("vgg16", "Burst", None, 78.66, 128, "MSAT (arXiv 2303.13080), Table 3"),
        Published("resnet20", "Burst", None, 80.72, 256, "MSAT (arXiv 2303.13080), Table 3"),
        Published("vgg16", "RMP-SNN", None, 70.93, 2048, "MSAT (arXiv 2303.13080), Table 3"),
        Published("resnet20-he", "RMP-SNN", None, 67.82, None, "MSAT (arXiv 2303.13080), Table 3"),
        Published("vgg16", "TSC", None, 70.97, None, "MSAT (arXiv 2303.13080), Table 3"),
        Published("resnet20-he", "TSC", None, 68.18, None, "MSAT (arXiv 2303.13080), Table 3"),
        Published("vgg16", "Opt", None, 70.47, 128, "MSAT (arXiv 2303.13080), Table 3"),
        Published("resnet20-he", "Opt", None, 69.49, 128, "MSAT (arXiv 2303.13080), Table 3"),
        Published("vgg16", "Calibration", None, 77.79, 512, "MSAT (arXiv 2303.13080), Table 3"),
        Published("resnet20", "Calibration", None, 77.29, 64, "MSAT (arXiv 2303.13080), Table 3 (a wider ResNet-20)"),
        Published("vgg16", "Calibration (light)", None, 65.26, 16, "SNN_Calibration, README"),
        Published("vgg16", "Calibration (advanced)", None, 70.91, 16, "SNN_Calibration, README"),
    )

    def models(self, profile: Profile) -> Mapping[str, ModelSpec]:
        """Return VGG16 and both meanings of "ResNet20", or their small versions."""
        return small_models(epochs=4) if profile == "sample" else full_models()

    def load(self, profile: Profile, folder: Path | None) -> Data:
        """Read CIFAR-100, or make pairs of digits side by side."""
        return pairs("beside") if profile == "sample" else load_cifar(CIFAR100, self.name, self.title, folder)

    def prepare(self, inputs: Tensor) -> Tensor:
        """uint8 [n, 3, h, w] to normalised float32."""
        return normalise(inputs, MEAN, STD)

    def augment(self, inputs: Tensor, names: Sequence[str], generator: torch.Generator) -> Tensor:
        """Flip, crop, autoaugment and cutout."""
        return augment_images(inputs, names, generator)
