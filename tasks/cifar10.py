"""CIFAR-10: ten kinds of objects in 32×32 colour pictures; the sample is scikit-learn's digits, tinted."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torchvision.datasets import CIFAR10

from msat.task import CHAIN, RESIDUAL, Data, ModelSpec, Profile, Task
from tasks.cifar import PAPER_RECIPE, SMALL_RECIPE, STEPS, load_cifar
from tasks.images import augment_images, normalise
from tasks.models.resnet import he_resnet20, paper_resnet20
from tasks.models.vgg import VGG, VGG16

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Cifar10(Task):
    """Ten classes of 32×32 colour pictures."""

    name = "cifar10"
    title = "CIFAR-10"
    modality: Literal["image"] = "image"

    def models(self, profile: Profile) -> Mapping[str, ModelSpec]:
        """Return VGG16 and both meanings of "ResNet20"."""
        return {
            "vgg16": ModelSpec(lambda data: VGG(VGG16, 512, len(data.classes)), PAPER_RECIPE, STEPS, CHAIN),
            "resnet20": ModelSpec(
                lambda data: paper_resnet20(len(data.classes)), PAPER_RECIPE, STEPS, RESIDUAL
            ),
            "resnet20-he": ModelSpec(
                lambda data: he_resnet20(len(data.classes)), SMALL_RECIPE, STEPS, RESIDUAL
            ),
        }

    def load(self, profile: Profile, folder: Path | None) -> Data:
        """Read CIFAR-10."""
        return load_cifar(CIFAR10, self.name, self.title, folder)

    def prepare(self, inputs: Tensor) -> Tensor:
        """uint8 [n, 3, h, w] to normalised float32."""
        return normalise(inputs, MEAN, STD)

    def augment(self, inputs: Tensor, names: Sequence[str], generator: torch.Generator) -> Tensor:
        """Flip, crop, autoaugment and cutout."""
        return augment_images(inputs, names, generator)
