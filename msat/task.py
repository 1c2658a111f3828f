"""The task contract: data in splits, the networks with their training recipes, and published rows to print beside ours."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from msat.errors import UserError, unknown_name

Profile = Literal["sample", "full"]


class Split(Protocol):
    """Labelled examples that are read by index; large sets read from disk, small ones hold a tensor."""

    @property
    def labels(self) -> Tensor:
        """Class of each example: int64 [N]."""
        ...

    def __len__(self) -> int: ...

    def take(self, indices: Tensor) -> Tensor:
        """Return stored examples (before `Task.prepare`) for int64 indices [n]: [n, ...]."""
        ...


@dataclass(frozen=True)
class TensorSplit:
    """A split that lies in memory in its stored form (uint8 images, int16 waveforms, int64 token ids)."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> Tensor:
        return self.inputs[indices]


@dataclass(frozen=True)
class Subset:
    """Some examples of a split, in the order of `indices` (int64 [n])."""

    split: Split
    indices: Tensor

    @property
    def labels(self) -> Tensor:
        return self.split.labels[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, indices: Tensor) -> Tensor:
        return self.split.take(self.indices[indices])


@dataclass(frozen=True)
class Provenance:
    """What the figures of a table rest on; printed above every table."""

    kind: Literal["real", "sample"]
    """`sample` for the embedded data, `real` for a data set read from disk."""
    summary: str
    """One phrase, e.g. "CIFAR-10, 50,000 + 10,000 images"."""
    remarks: tuple[str, ...] = ()
    """What a reader must know: "JPEG re-encoded", "11 of 30 words", "synthetic"."""


@dataclass(frozen=True)
class Data:
    """The splits of one task under one profile."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    provenance: Provenance
    extras: Mapping[str, int] = field(default_factory=dict)
    """Sizes that a network needs beside the example's shape, e.g. `vocabulary`."""

    def calibration(self, size: int) -> Subset:
        """Return `size` training examples at fixed indices, not augmented (a seeded shuffle of the train split)."""
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(20230323))
        return Subset(self.train, order[:size])

    def fingerprint(self) -> str:
        """Hash of labels and of 64 evenly spaced examples of each split: which data the figures were measured on."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            digest.update(split.labels.numpy().tobytes())
            spread = torch.linspace(0, len(split) - 1, min(64, len(split))).long()
            digest.update(split.take(spread).contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; part of the checkpoint's cache key."""

    epochs: int
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.1
    schedule: Literal["cosine", "one-cycle"] = "cosine"
    batch: int = 128
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    augment: tuple[str, ...] = ()
    """Names that `Task.augment` understands, applied in order."""
    gentle: tuple[str, ...] | None = None
    """`augment` for less than a third of the epochs, where strong changes only slow the learning; None: the same."""

    def lasting(self, epochs: int) -> "Recipe":
        """Return the recipe for a training of `epochs` instead."""
        gentle = self.gentle if self.gentle is not None and 3 * epochs < self.epochs else self.augment
        return replace(self, epochs=epochs, augment=gentle)


@dataclass(frozen=True)
class AdaptiveParameters:
    """MSAT's parameters of Table 2 for one network (methods.md A.2); all dimensionless."""

    alpha: float
    k_a: float
    k_i: float
    C: float
    tau_mp: float
    tau_rd: float


CHAIN = AdaptiveParameters(alpha=0.03, k_a=1.0, k_i=1.0, C=5.0, tau_mp=1.0, tau_rd=1.0)
"""Table 2, VGG16; also used for networks without shortcuts that the paper gives no values for."""
RESIDUAL = AdaptiveParameters(alpha=0.3, k_a=1.0, k_i=1.0, C=5.0, tau_mp=0.5, tau_rd=0.5)
"""Table 2, ResNet20; also used for residual networks that the paper gives no values for."""


@dataclass(frozen=True)
class ModelSpec:
    """One network of a task under one profile."""

    build: Callable[[Data], nn.Module]
    """Makes the untrained network; reads `classes` and `extras`, draws weights from torch's global generator."""
    recipe: Recipe
    steps: int
    """Default number T of time steps."""
    adaptive: AdaptiveParameters
    weights: Callable[[nn.Module, Path], Path | None] | None = None
    """For networks that are loaded, not trained: (network, data folder) -> file read, or None when it is not there."""


@dataclass(frozen=True)
class Published:
    """A row of a paper's table, printed beside the measured ones and never ranked with them."""

    model: str
    method: str
    ann: float | None
    """ANN accuracy in percent."""
    snn: float
    """SNN accuracy in percent."""
    steps: int | None
    source: str


class Task(ABC):
    """A data set with its networks; one file in `tasks/` or in a plugin."""

    name: str
    title: str
    modality: Literal["image", "text", "speech"]
    published: Sequence[Published] = ()

    @abstractmethod
    def models(self, profile: Profile) -> Mapping[str, ModelSpec]:
        """Return the networks of a profile by name; the first is the default."""

    @abstractmethod
    def load(self, profile: Profile, folder: Path | None) -> Data:
        """Read the splits.

        Args:
            profile: `sample` never touches `folder`; `full` never falls back to sample data.
            folder: the `DATA=` folder, or None when none was named.

        Raises:
            MissingData: real data were asked for and are absent or damaged; says which files to put where.
        """

    @abstractmethod
    def prepare(self, inputs: Tensor) -> Tensor:
        """Turn stored examples [n, ...] into what the networks take: float32 (token ids stay int64), normalised."""

    def augment(self, inputs: Tensor, names: Sequence[str], generator: torch.Generator) -> Tensor:
        """Return stored examples [n, ...] changed at random as a recipe's `augment` names it; stored form in and out.

        The generator is a CPU's; the examples may lie on a GPU, where those of many steps come at once.
        """
        if names:
            raise UserError(f"task '{self.name}' knows no augmentation {', '.join(names)}; remove it from the recipe.")
        return inputs

    def model(self, profile: Profile, name: str | None) -> tuple[str, ModelSpec]:
        """Return (name, spec) of a network, the task's first one for None; an unknown name gets suggestions."""
        models = self.models(profile)
        if name is None:
            name = next(iter(models))
        if name not in models:
            raise unknown_name(f"model of task '{self.name}' under profile {profile}", name, models)
        return name, models[name]
