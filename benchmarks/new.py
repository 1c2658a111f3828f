"""Writes a plugin file to start from."""

import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template

from msat.errors import UserError, unknown_name

KINDS = ("method", "task")
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write_template(kind: str, name: str, folder: Path) -> Path:
    """Write a commented method or task that works as it stands, and return its file.

    Raises:
        UserError: the name cannot be used, or the file is already there.
    """
    if kind not in KINDS:
        raise unknown_name("kind of plugin", kind, KINDS)
    if keyword.iskeyword(name):
        raise UserError(f"'{name}' is a word of Python's own; choose another name, e.g. my-{name}.")
    if not NAME.fullmatch(name):
        raise UserError(f"'{name}' is no plugin name; use lower-case letters, digits and dashes, e.g. my-{kind}.")
    words = name.split("-")
    file = folder / f"{'_'.join(words)}.py"
    if file.exists():
        raise UserError(f"{file} is already there; choose another name or folder.")
    source = files("benchmarks").joinpath("templates", f"{kind}.py.txt").read_text(encoding="utf-8")
    text = Template(source).substitute(
        name=name,
        function="_".join(words),
        class_name="".join(map(str.title, words)),
        title=" ".join(words).capitalize(),
    )
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file
