"""Handwritten digits of scikit-learn: 8×8 grey pictures, no download, the same under both profiles."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from msat.task import CHAIN, RESIDUAL, Data, ModelSpec, Profile, Recipe, Task
from tasks.images import augment_images, normalise
from tasks.models.resnet import PadShortcut, ResNet
from tasks.models.vgg import VGG
from tasks.samples.digits import plain

RECIPE = Recipe(epochs=12, learning_rate=0.1, schedule="one-cycle", batch=64)


def cnn(data: Data) -> nn.Module:
    """Return three convolutions and two max-pools."""
    return VGG((16, 16, "M", 32, "M"), 128, len(data.classes), channels=1)


def resnet(data: Data) -> nn.Module:
    """Return a residual network of two blocks, 5 ReLUs."""
    return ResNet(1, (16, 32), 1, PadShortcut, nn.AdaptiveAvgPool2d(1), len(data.classes), channels=1)


def mlp(data: Data) -> nn.Module:
    """Return two hidden layers."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, 32),
        nn.ReLU(),
        nn.Linear(32, len(data.classes)),
    )


class HandwrittenDigits(Task):
    """Ten classes of 8×8 grey pictures."""

    name = "digits"
    title = "Handwritten digits"
    modality: Literal["image"] = "image"

    def models(self, profile: Profile) -> Mapping[str, ModelSpec]:
        """Return a convolutional, a residual and a fully connected network; `full` simulates longer."""
        steps = 32 if profile == "sample" else 256
        return {
            "cnn": ModelSpec(cnn, RECIPE, steps, CHAIN),
            "resnet": ModelSpec(resnet, RECIPE, steps, RESIDUAL),
            "mlp": ModelSpec(mlp, RECIPE, steps, CHAIN),
        }

    def load(self, profile: Profile, folder: Path | None) -> Data:
        """Return 1,437 training and 360 test digits."""
        return plain("sample" if profile == "sample" else "real")

    def prepare(self, inputs: Tensor) -> Tensor:
        """uint8 [n, 1, 8, 8] to normalised float32."""
        return normalise(inputs, (0.3,), (0.35,))

    def augment(self, inputs: Tensor, names: Sequence[str], generator: torch.Generator) -> Tensor:
        """Flip, crop and cutout."""
        return augment_images(inputs, names, generator)
