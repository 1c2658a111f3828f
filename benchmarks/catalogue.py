"""Names and titles of tasks and methods, read from source with `ast`: nothing is imported, so `list` answers at once."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from msat.errors import UserError

GROUPS = ("msat.tasks", "msat.methods")
Kind = Literal["task", "method"]


@dataclass(frozen=True)
class Entry:
    """A task or method as its source file declares it."""

    kind: Kind
    name: str
    title: str
    parameters: tuple[tuple[str, str], ...] = ()
    """Names of a method's parameters with the source text of their defaults."""


def installed(group: str) -> list[tuple[str, Path]]:
    """Return (module name, file) of every module that an entry-point group names; a package stands for its modules."""
    found: dict[str, Path] = {}
    for point in entry_points(group=group):
        spec = find_spec(point.value)
        if spec is None or spec.origin is None:
            raise UserError(
                f"entry point '{point.name}' of group {group} names '{point.value}', which is not installed."
            )
        if spec.submodule_search_locations is None:
            found[point.value] = Path(spec.origin)
            continue
        for folder in spec.submodule_search_locations:
            files = sorted(Path(folder).glob("*.py"))
            found |= {f"{point.value}.{file.stem}": file for file in files if file.stem != "__init__"}
    return list(found.items())


def read(plugins: Iterable[Path] = ()) -> list[Entry]:
    """Return all tasks, then all methods, by name."""
    files = dict.fromkeys(file for group in GROUPS for _, file in installed(group))
    entries = [entry for file in [*files, *plugins] for entry in _entries(file)]
    return sorted(entries, key=lambda entry: (entry.kind != "task", entry.name))


def _entries(file: Path) -> Iterator[Entry]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"plugin {file} cannot be read: {error.strerror}.") from error
    except SyntaxError as error:
        raise UserError(f"plugin {file}, line {error.lineno}: {error.msg}.") from error
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and any(_is_method(mark) for mark in node.decorator_list):
            title = (ast.get_docstring(node) or node.name).split("\n")[0].rstrip(".")
            yield Entry("method", node.name.replace("_", "-"), title, tuple(_parameters(node.args)))
        elif isinstance(node, ast.ClassDef):
            texts = _literals(node)
            if "name" in texts and "title" in texts:
                yield Entry("task", texts["name"], texts["title"])


def _is_method(mark: ast.expr) -> bool:
    called = mark.func if isinstance(mark, ast.Call) else None
    return getattr(called, "id", getattr(called, "attr", "")) == "method"


def _parameters(arguments: ast.arguments) -> Iterator[tuple[str, str]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    given = positional[len(positional) - len(arguments.defaults) :]
    for argument, default in zip(given, arguments.defaults, strict=True):
        yield argument.arg, ast.unparse(default)
    for argument, keyword in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if keyword is not None:
            yield argument.arg, ast.unparse(keyword)


def _literals(node: ast.ClassDef) -> dict[str, str]:
    """Return the class attributes that are assigned a text."""
    texts: dict[str, str] = {}
    for line in node.body:
        target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
        value = getattr(line, "value", None)
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str):
            texts[target.id] = value.value
    return texts
