"""Imports tasks and methods: from the entry-point groups `msat.tasks` and `msat.methods`, and from plugin files."""

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from benchmarks.catalogue import GROUPS, installed
from msat.errors import UserError, unknown_name
from msat.method import MethodFactory
from msat.task import Task

T = TypeVar("T")


@dataclass(frozen=True)
class Registry:
    """Every task and method that is there, by name."""

    tasks: Mapping[str, Task]
    methods: Mapping[str, MethodFactory]

    def task(self, name: str) -> Task:
        """Return a task; an unknown name gets suggestions."""
        return _known("task", name, self.tasks)

    def method(self, name: str) -> MethodFactory:
        """Return a method; an unknown name gets suggestions."""
        return _known("method", name, self.methods)


@lru_cache(maxsize=4)
def registry(plugins: tuple[str, ...] = ()) -> Registry:
    """Import everything that is installed, and plugin files.

    Raises:
        UserError: a plugin raises at import, or a name is taken twice.
    """
    files = {name: file for group in GROUPS for name, file in installed(group)}
    modules = [_guarded(file, partial(importlib.import_module, name)) for name, file in files.items()]
    modules += [load_file(Path(plugin)) for plugin in plugins]
    return Registry(
        tasks=_by_name("task", ((task.name, task, where) for task, where in _tasks(modules))),
        methods=_by_name("method", ((factory.name, factory, where) for factory, where in _methods(modules))),
    )


def load_file(file: Path) -> ModuleType:
    """Import a plugin file that is not installed."""
    name = f"msat_plugin_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    if spec is None or spec.loader is None or not file.is_file():
        raise UserError(f"plugin {file} is not a Python file; name one with --plugin path/to/file.py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs, so that inspect finds the source of what it defines
    loader = spec.loader
    _guarded(file, partial(loader.exec_module, module))
    return module


def tasks_of(module: ModuleType) -> Iterator[Task]:
    """Yield an instance of every concrete task that a module defines."""
    for value in vars(module).values():
        own = inspect.isclass(value) and value.__module__ == module.__name__
        if own and issubclass(value, Task) and not inspect.isabstract(value):
            yield value()


def methods_of(module: ModuleType) -> Iterator[MethodFactory]:
    """Yield every method that a module defines."""
    for value in vars(module).values():
        if isinstance(value, MethodFactory) and value.build.__module__ == module.__name__:
            for name, default in value.defaults.items():
                if default is inspect.Parameter.empty:
                    raise UserError(
                        f"parameter '{name}' of method '{value.name}' in {module.__file__} has no default; give it one."
                    )
            yield value


def _tasks(modules: Iterable[ModuleType]) -> Iterator[tuple[Task, str]]:
    return ((task, str(module.__file__)) for module in modules for task in tasks_of(module))


def _methods(modules: Iterable[ModuleType]) -> Iterator[tuple[MethodFactory, str]]:
    return ((factory, str(module.__file__)) for module in modules for factory in methods_of(module))


def _by_name(kind: str, found: Iterable[tuple[str, T, str]]) -> dict[str, T]:
    known: dict[str, T] = {}
    places: dict[str, str] = {}
    for name, value, place in found:
        if name in known:
            raise UserError(f"{kind} '{name}' is defined twice, in {places[name]} and in {place}; rename one.")
        known[name], places[name] = value, place
    return known


def _known(kind: str, name: str, known: Mapping[str, T]) -> T:
    if name not in known:
        raise unknown_name(kind, name, known)
    return known[name]


def _guarded(where: Path, load: Callable[[], T]) -> T:
    """Import, and say in one sentence where a plugin broke; a plugin is foreign code, so it may raise anything."""
    try:
        return load()
    except UserError:
        raise
    except SyntaxError as error:
        raise UserError(f"plugin {where}, line {error.lineno}: {error.msg}.") from error
    except Exception as error:
        raise UserError(f"plugin {where}: {fault(error, where)}") from error


def fault(error: BaseException, where: Path | None) -> str:
    """Return what foreign code raised in one sentence, with the line: its own last one in a file, or else the very last."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if where and Path(frame.filename).resolve() == where.resolve()]
    text = (str(error).splitlines() or [""])[0].rstrip(".")
    if not frames:
        return f"{type(error).__name__}: {text}."
    last = (own or frames)[-1]
    return f"{type(error).__name__}: {text} ({Path(last.filename).name}, line {last.lineno})."
