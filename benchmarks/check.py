"""Conformance of plugins: every method converts a tiny network, every task makes data that its networks take."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.plugins import fault, load_file, methods_of, tasks_of
from msat.backends import Backend, Folded, Step
from msat.calibration import Calibration
from msat.conversion import convert
from msat.errors import UserError
from msat.method import Axes, Method, MethodFactory
from msat.network import Network, Readout, SpikingNetwork
from msat.simulation import Chunk, Observer, simulate, tensor_batches
from msat.task import Data, Task
from msat.tracing import trace
from msat.training import build

STEPS = 8
INPUTS = 12


def check(file: Path, tell: Callable[[str], None]) -> int:
    """Try all that a plugin file defines, tell of each, and return the number of faults.

    Raises:
        UserError: the file raises at import, or defines nothing.
    """
    module = load_file(file)
    faults = {f"method {factory.name}": method_fault(factory, file) for factory in methods_of(module)}
    faults |= {f"task {task.name}": task_fault(task, file) for task in tasks_of(module)}
    if not faults:
        raise UserError(f"{file} defines neither a method (a function under @method) nor a task (a subclass of Task).")
    for name, found in faults.items():
        tell(f"{name}: {found or 'ok'}")
    return sum(map(bool, faults.values()))


def method_fault(factory: MethodFactory, file: Path | None = None) -> str:
    """Return what is wrong with a method that a file defines, or nothing.

    It must convert a small convolutional network, give finite logits of the right shape, and give the same ones whatever
    the batch size and however time is cut.
    """
    try:
        method = factory()
        if not isinstance(method.axes, Axes):
            return f"it gives {type(method.axes).__name__}; return Axes(...)."
        network = tiny_network()
        spiking = convert(method, Calibration(network, inputs(64, seed=1), STEPS))
        whole = logits(spiking, Folded(), INPUTS)
        if whole.shape != (STEPS, INPUTS, 4):
            return f"logits must have the shape {(STEPS, INPUTS, 4)}, got {tuple(whole.shape)}."
        if not whole.isfinite().all():
            return "logits must be finite; look for a division by a threshold or a count of zero."
        return _agreement(method, spiking, whole)
    except UserError as error:
        return str(error)
    except Exception as error:  # foreign code may raise anything; that is what is looked for here
        return fault(error, file)


def _agreement(method: Method, spiking: SpikingNetwork, whole: Tensor) -> str:
    others = {"a batch of 5": logits(spiking, Folded(), 5)}
    if method.causal:
        others |= {
            "chunks of 3 steps": logits(spiking, Folded(3), INPUTS),
            "the step loop": logits(spiking, Step(), INPUTS),
        }
    for name, other in others.items():
        # One spike may move where rounding differs; a lost or doubled state moves many.
        moved = ((other - whole).abs() > 1e-3 * whole.abs().max()).double().mean()
        if moved > 0.05:
            return (
                f"results must not depend on how work is cut, but with {name} {100 * moved:.0f} % of the logits differ."
            )
    return ""


def task_fault(task: Task, file: Path | None = None) -> str:
    """Return what is wrong with a task's sample, or nothing."""
    try:
        data = task.load("sample", None)
        models = task.models("sample")
        if not models:
            return "models('sample') must name a network."
        example = task.prepare(data.test.take(torch.arange(2)))
        for name, spec in models.items():
            found = trace(build(spec, data, 0), example)(example).shape
            if found != (2, len(data.classes)):
                return f"network '{name}' must give logits {(2, len(data.classes))}, got {tuple(found)}."
        return _labels(data)
    except UserError as error:
        return str(error)
    except Exception as error:  # foreign code may raise anything; that is what is looked for here
        return fault(error, file)


def _labels(data: Data) -> str:
    for name, split in (("train", data.train), ("test", data.test)):
        if split.labels.dtype != torch.int64 or split.labels.dim() != 1:
            return (
                f"labels of the {name} split must be int64 [N], got {split.labels.dtype} {tuple(split.labels.shape)}."
            )
        if len(split.labels) != len(split):
            return f"the {name} split must have a label for each example, got {len(split.labels)} for {len(split)}."
        if split.labels.min() < 0 or split.labels.max() >= len(data.classes):
            return f"labels of the {name} split must lie in 0..{len(data.classes) - 1}."
    return ""


def tiny_network() -> Network:
    """Return a traced network with two convolutions, a max-pool and two ReLUs, its weights from a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4),
        )  # fmt: skip
    return trace(module, inputs(1, seed=0))


def inputs(size: int, seed: int) -> Tensor:
    """Return random inputs [size, 1, 8, 8]."""
    return torch.randn(size, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def logits(spiking: SpikingNetwork, backend: Backend, batch: int) -> Tensor:
    """Return the readout at every step: [T, inputs, classes]."""
    keeper = _Keeper()
    simulate(spiking, tensor_batches(inputs(INPUTS, seed=2), batch), STEPS, [keeper], backend)
    return torch.cat([torch.cat(batch_) for batch_ in keeper.batches], 1)


class _Keeper(Observer):
    """Keeps all logits; for tiny runs only."""

    def __init__(self) -> None:
        self.batches: list[list[Tensor]] = [[]]

    def see(self, chunk: Chunk) -> None:
        if isinstance(chunk.stage.stage.rule, Readout):
            self.batches[-1].append(chunk.traffic.output())

    def batch_done(self, inputs: Tensor, samples: Tensor) -> None:
        if int(samples[-1]) < INPUTS - 1:
            self.batches.append([])
