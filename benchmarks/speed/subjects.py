"""The networks that are timed: trained ones where checkpoints and data are there, else random ones with real firing rates."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cells import SHIPPED
from benchmarks.plugins import registry
from msat.calibration import Calibration
from msat.checkpoints import load_checkpoint
from msat.conversion import convert
from msat.errors import MissingData
from msat.network import Network, SpikingNetwork
from msat.task import AdaptiveParameters
from msat.tracing import trace

METHODS = {"IF": "maximum", "MSAT": "msat", "normalised MSAT": "msat-normalised"}
"""Names of neurons in the tables; anything else is the name of a method."""
CALIBRATION = 128
SEED = 0


@dataclass(frozen=True)
class Spec:
    """What to time and how many inputs at once."""

    task: str
    model: str
    shape: tuple[int, ...]
    classes: int
    batch: int = 10
    title: str = ""
    weights: str = ""
    """Name of the shipped checkpoint, which every figure is measured on; random weights where there is none."""


SPECS = {
    "vgg16": Spec("cifar10", "vgg16", (3, 32, 32), 10, title="VGG16", weights="cifar10-vgg16-s0-1d188297cc4f"),
    "resnet20": Spec(
        "cifar10",
        "resnet20",
        (3, 32, 32),
        10,
        title='the paper\'s "ResNet20"',
        weights="cifar10-resnet20-s0-232df9e20684",
    ),
    "resnet20-he": Spec(
        "cifar10", "resnet20-he", (3, 32, 32), 10, title="ResNet-20 (He)", weights="cifar10-resnet20-he-s0-2082a4f09617"
    ),
    "m5": Spec("speech", "m5", (1, 8000), 11, title="M5", weights="speech-m5-s0-e92491bcbc94"),
    "resnet34": Spec("imagenet", "resnet34", (3, 224, 224), 1000, batch=2, title="ResNet-34, 224×224"),
}


@dataclass(frozen=True)
class Subject:
    """A network, its inputs, and where both come from."""

    name: str
    spec: Spec
    module: nn.Module
    network: Network
    inputs: Tensor
    """Prepared test inputs, as many as are simulated at once."""
    calibration: Calibration
    origin: str

    @torch.no_grad()
    def converted(self, neuron: str, scale: float = 1.0) -> SpikingNetwork:
        """Return the spiking network; `scale` multiplies all thresholds, which divides the firing rates."""
        spiking = convert(registry().method(METHODS.get(neuron, neuron))(), self.calibration)
        for position in self.network.sites if scale != 1 else ():
            population: Any = spiking.stages[position].population
            spiking = spiking.with_stage(
                position, population=replace(population, threshold=population.threshold * scale)
            )
        return spiking


@torch.no_grad()
def subject(name: str, data_folder: Path | None, steps: int) -> Subject:
    """Load one network and its inputs."""
    spec = SPECS[name]
    task = registry().task(spec.task)
    model = task.models("full")[spec.model]
    file = SHIPPED / f"{spec.weights}.safetensors"
    calibration, inputs, what = examples(spec, data_folder)
    if spec.weights and file.exists():
        module = model.build(SimpleNamespace(classes=range(spec.classes)))  # type: ignore[arg-type]
        load_checkpoint(module, file)
        origin = f"trained ({file.name}), {what}"
    else:
        module, origin = random_network(model.build, spec.classes, calibration), f"random weights, {what}"
    module.eval()
    network = trace(module, inputs[:1])
    return Subject(name, spec, module, network, inputs, adapted(network, calibration, steps, model.adaptive), origin)


def adapted(network: Network, inputs: Tensor, steps: int, adaptive: AdaptiveParameters) -> Calibration:
    return Calibration(network, inputs, steps, SEED, adaptive)


def examples(spec: Spec, folder: Path | None) -> tuple[Tensor, Tensor, str]:
    """Return calibration and test inputs, and what they are; noise where the data are absent."""
    task, count = registry().task(spec.task), CALIBRATION if spec.batch > 2 else 4
    try:
        data = task.load("full", folder)
    except MissingData:
        make = torch.Generator().manual_seed(SEED)
        noise = torch.randn(count + spec.batch, *spec.shape, generator=make)
        return noise[spec.batch :], noise[: spec.batch], "noise as input"
    chosen = data.calibration(count)
    calibration = task.prepare(chosen.take(torch.arange(count)))
    inputs = task.prepare(data.test.take(torch.arange(0, len(data.test), len(data.test) // spec.batch)[: spec.batch]))
    return calibration, inputs, data.provenance.summary


def random_network(build: Any, classes: int, inputs: Tensor) -> nn.Module:
    """Return a network with random weights whose normalisations have seen inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        module: nn.Module = build(SimpleNamespace(classes=range(classes)))
        module.train()
        for _ in range(3):
            module(inputs[:32])
    return module
