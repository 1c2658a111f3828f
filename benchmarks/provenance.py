"""Which code measured: package versions, git commit, and a hash of a method's own source."""

import ast
import hashlib
import inspect
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from msat.method import MethodFactory

PACKAGES = ("msat-bench", "torch", "torchvision", "torchaudio", "numpy")


@lru_cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@lru_cache
def commit() -> tuple[str | None, bool | None]:
    """Return the git commit of this code and whether the tree differs from it, results left out; None outside git."""
    root = Path(__file__).resolve().parents[1]
    head = git(root, "rev-parse", "HEAD")
    changes = git(root, "status", "--porcelain", "--", ".", ":(exclude)results")
    return (head.decode().strip(), bool(changes.strip())) if head and changes is not None else (None, None)


def git(folder: Path, *arguments: str) -> bytes | None:
    """Return what a git command prints in a folder, or None where it fails or there is no git."""
    try:
        return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def source_hash(factory: MethodFactory, axes: Any) -> str:
    """Return a hash of the code, without comments and docstrings, of a method's file and of its rules' files."""
    files = {inspect.getsourcefile(factory.build)} | {inspect.getsourcefile(kind) for kind in _kinds(axes)}
    digest = hashlib.sha256()
    for file in sorted(file for file in files if file):
        digest.update(_code(Path(file)).encode())
    return digest.hexdigest()[:16]


def _kinds(value: Any) -> Iterator[type]:
    """Yield the classes of a dataclass and of all dataclasses inside it."""
    if is_dataclass(value) and not isinstance(value, type):
        yield type(value)
        for part in fields(value):
            yield from _kinds(getattr(value, part.name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _kinds(item)


@lru_cache
def _code(file: Path) -> str:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_text(line)]  # type: ignore[attr-defined]
        if not getattr(node, "type_params", True):
            del node.type_params  # type: ignore[attr-defined]
    # Written alike by all versions of Python: 3.12 adds empty lists of type parameters, 3.13 leaves all empty lists out.
    return ast.dump(tree, **({"show_empty": True} if sys.version_info >= (3, 13) else {}))


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
