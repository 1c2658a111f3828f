"""A plugin for the tests: a task of two clouds of points that trains in a second, and methods that misbehave."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from msat.errors import MissingData, Skip
from msat.method import Axes, method
from msat.task import CHAIN, Data, ModelSpec, Profile, Provenance, Published, Recipe, Task, TensorSplit


def mlp(data: Data) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, len(data.classes)))


class Residual(nn.Module):
    """A shortcut around two ReLUs."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.relu1, self.relu2, self.relu3, self.last = nn.ReLU(), nn.ReLU(), nn.ReLU(), nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.first(x))
        return self.last(self.relu3(self.third(self.relu2(self.second(x))) + x))


def residual(data: Data) -> nn.Module:
    return Residual(len(data.classes))


def dead(data: Data) -> nn.Module:
    """Return a network whose ReLU never fires."""
    network = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, len(data.classes)))
    nn.init.constant_(network[0].bias, -1e3)
    return network


def smooth(data: Data) -> nn.Module:
    """Return a network that cannot be converted."""
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, len(data.classes)))


def clouds(size: int, seed: int) -> TensorSplit:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(size) % 3
    centres = 1.2 * torch.eye(6)[labels]
    return TensorSplit(torch.randn(size, 6, generator=generator) * 0.7 + centres, labels)


class Clouds(Task):
    """Three clouds of points."""

    name = "clouds"
    title = "Clouds | of *points*"
    modality: Literal["image"] = "image"
    published = (Published("mlp", "Other", 90.0, 89.5, 64, "A paper"),)

    def models(self, profile: Profile) -> Mapping[str, ModelSpec]:
        recipe = Recipe(epochs=8, learning_rate=0.1, batch=32)
        return {
            "mlp": ModelSpec(mlp, recipe, 8, CHAIN),
            "residual": ModelSpec(residual, recipe, 8, CHAIN),
            "dead": ModelSpec(dead, Recipe(epochs=1, learning_rate=1e-6), 8, CHAIN),
            "smooth": ModelSpec(smooth, recipe, 8, CHAIN),
        }

    def load(self, profile: Profile, folder: Path | None) -> Data:
        if profile == "full" and folder is None:
            raise MissingData("clouds are not there; name a folder with DATA=.")
        return Data(clouds(192, 0), clouds(90, 1), ("a", "b", "c"), Provenance("sample", "3 clouds", ("synthetic",)))

    def prepare(self, inputs: Tensor) -> Tensor:
        return inputs.float()


@method("nobody")
def raises() -> Axes:
    """Raises when it is built."""
    raise ZeroDivisionError("one by | zero")


@method("nobody")
def skips() -> Axes:
    """Cannot be run by rule."""
    raise Skip("needs a retrained network")


@method("nobody", stochastic=True, reconstruction="nothing is drawn, in truth.")
def repeated() -> Axes:
    """Runs several seeds."""
    return Axes()
