"""Cells, the units of work: small picklable descriptions, the grid they form, and the file each record goes to."""

import hashlib
import inspect
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from benchmarks.plugins import Registry, fault, registry
from benchmarks.selection import Choice
from msat.errors import UserError, unknown_name
from msat.task import AdaptiveParameters, ModelSpec, Profile, Task

CALIBRATION = 512
SHIPPED = Path("results/checkpoints")
"""Networks whose figures are committed, so that anyone with the same data measures the same weights."""
SEEDS = 3


@dataclass(frozen=True)
class Options:
    """What holds for every cell of a run."""

    profile: Profile = "sample"
    data: Path | None = None
    device: str = "cpu"
    backend: str | None = None
    """None: the fastest on the device."""
    steps: int | None = None
    limit: int | None = None
    epochs: int | None = None
    calibration: int = CALIBRATION
    seeds: int = SEEDS
    base_seed: int = 0
    results: Path = Path("results")
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        least = {"steps": self.steps, "limit": self.limit, "epochs": self.epochs,
                 "calibration": self.calibration, "seeds": self.seeds}  # fmt: skip
        for name, value in least.items():
            if value is not None and value < 1:
                raise UserError(f"{name.upper()} must be at least 1, got {value}; set {name.upper()}=1 or more.")
        if self.profile == "full" and self.data is not None and not self.data.is_dir():
            raise UserError(
                f"DATA={self.data} is no folder; correct it, or make the folder if data are to be downloaded into it."
            )

    @property
    def registry(self) -> Registry:
        """Tasks and methods, imported once per process."""
        return registry(self.plugins)


def as_profile(text: str) -> Profile:
    """Return a profile by name; an unknown name gets suggestions."""
    for profile in get_args(Profile):
        if profile == text:
            return cast(Profile, profile)
    raise unknown_name("profile", text, get_args(Profile))


@dataclass(frozen=True)
class Setting:
    """One network of one task: what its cells share."""

    task: str
    model: str
    options: Options

    def resolve(self) -> tuple[Task, ModelSpec]:
        """Return the task and the network's specification, with EPOCHS put into its recipe."""
        task = self.options.registry.task(self.task)
        _, spec = task.model(self.options.profile, self.model)
        if self.options.epochs is not None and spec.weights is None:
            spec = replace(spec, recipe=spec.recipe.lasting(self.options.epochs))
        return task, spec

    @property
    def steps(self) -> int:
        """T: what was asked for, or the network's default."""
        return self.options.steps or self.resolve()[1].steps


@dataclass(frozen=True)
class Cell:
    """One measurement: a network, a method with its parameters, T and a repetition."""

    setting: Setting
    method: str
    overrides: tuple[tuple[str, Any], ...]
    steps: int
    repetition: int = 0

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters of the method, defaults included."""
        return self.setting.options.registry.method(self.method).defaults | dict(self.overrides)

    @property
    def label(self) -> str:
        """The method's name with the parameters that differ from its defaults."""
        return label(self.method, dict(self.overrides))

    @property
    def file(self) -> Path:
        """Where the record lies (design, section 8)."""
        _, spec = self.setting.resolve()
        name = f"{self.method}-{parameter_hash(self.parameters, spec.adaptive)}-T{self.steps}-s{self.repetition}.json"
        return task_folder(self.setting.options, self.setting.task) / self.setting.model / name


def label(method: str, overrides: Mapping[str, Any]) -> str:
    """Return a method's name with the parameters that differ from its defaults."""
    return " ".join([method, *(f"{name}={value}" for name, value in sorted(overrides.items()))])


def task_folder(options: Options, task: str) -> Path:
    """Return the folder of a task's records and tables."""
    return options.results / options.profile / task


def parameter_hash(parameters: Mapping[str, Any], adaptive: AdaptiveParameters) -> str:
    """Return a short hash of a method's parameters and of the network's parameters for MSAT."""
    return digest({"parameters": dict(parameters), "adaptive": asdict(adaptive)}, 8)


def digest(value: Any, length: int = 16) -> str:
    """Return a hash of a value that JSON can hold, or whose parts have a stable text."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:length]


def settings(options: Options, tasks: str | None, models: str | None) -> list[Setting]:
    """Return the networks to run: all tasks, each with its first model, unless names are given (`all`: every model)."""
    known = options.registry
    chosen = [known.task(name) for name in names(tasks)] or [known.tasks[name] for name in sorted(known.tasks)]
    wanted: Sequence[str | None] = names(models) or [None]
    found = []
    for task in chosen:
        try:
            every = list(task.models(options.profile))
        except UserError:
            raise
        except Exception as error:  # a task is foreign code and may raise anything
            source = inspect.getsourcefile(type(task))
            raise UserError(
                f"task '{task.name}' cannot name its networks: {fault(error, Path(source or ''))}"
            ) from error
        for name in every if wanted == ["all"] else wanted:
            found.append(Setting(task.name, task.model(options.profile, name)[0], options))
    return list(dict.fromkeys(found))


def grid(setting: Setting, choices: Sequence[Choice]) -> list[Cell]:
    """Return the cells of one network; stochastic methods are repeated."""
    return [
        Cell(setting, choice.factory.name, choice.parameters, setting.steps, repetition)
        for choice in choices
        for repetition in range(setting.options.seeds if choice.factory.stochastic else 1)
    ]


def names(text: str | None) -> list[str]:
    """Return the comma-separated names of a text."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def checkpoint_folder() -> Path:
    """Return the folder of trained networks, beside the cached data."""
    return Path(os.environ.get("MSAT_CACHE", ".cache")) / "checkpoints"
