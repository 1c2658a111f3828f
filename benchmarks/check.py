"""Conformance of plugins: every method does on a tiny network what it must, every task makes data that its networks take."""

import inspect
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.conformance import method_fault
from benchmarks.plugins import fault, load_file, methods_of, registry, tasks_of
from msat.errors import UserError
from msat.method import MethodFactory
from msat.task import Data, Task
from msat.tracing import trace
from msat.training import build


def check(file: Path, tell: Callable[[str], None]) -> int:
    """Try all that a plugin file defines, tell of each, and return the number of faults.

    Raises:
        UserError: the file raises at import, or defines nothing.
    """
    module, known = load_file(file), registry()
    faults = {
        f"method {factory.name}": _taken(known.methods.get(factory.name), file) or _method_fault(factory, file)
        for factory in methods_of(module)
    }
    faults |= {
        f"task {task.name}": _taken(known.tasks.get(task.name), file) or _task_fault(task, file)
        for task in tasks_of(module)
    }
    if not faults:
        raise UserError(f"{file} defines neither a method (a function under @method) nor a task (a subclass of Task).")
    for name, found in faults.items():
        tell(f"{name}: {found or 'ok'}")
    return sum(map(bool, faults.values()))


def _taken(other: MethodFactory | Task | None, file: Path) -> str:
    """Return that a name belongs to what another file defines, or nothing."""
    if other is None:
        return ""
    place = Path(inspect.getsourcefile(other.build if isinstance(other, MethodFactory) else type(other)) or "")
    return "" if place.resolve() == file.resolve() else f"the name is taken in {place}; give it another."


def _method_fault(factory: MethodFactory, file: Path) -> str:
    try:
        return method_fault(factory)
    except UserError as error:
        return str(error)
    except Exception as error:  # foreign code may raise anything; that is what is looked for here
        return fault(error, file)


def _task_fault(task: Task, file: Path) -> str:
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
