"""What the user typed behind METHODS=: `msat,rmp`, with parameters `kappa:fraction=0.3` or `msat units=normalised dtt=false`."""

import ast
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from benchmarks.plugins import Registry
from msat.errors import UserError, unknown_name
from msat.method import MethodFactory


@dataclass(frozen=True)
class Choice:
    """A method with the parameters that differ from its defaults, by name."""

    factory: MethodFactory
    parameters: tuple[tuple[str, Any], ...] = ()


def choose_methods(registry: Registry, text: str | None) -> list[Choice]:
    """Return the methods that a text names, in its order; all of them, by name, for None.

    Raises:
        UserError: an unknown method, parameter or value, or a text that cannot be read.
    """
    if text is None:
        return [Choice(registry.methods[name]) for name in sorted(registry.methods)]
    choices = [_choice(registry, part.strip()) for part in text.split(",") if part.strip()]
    if not choices:
        raise UserError("METHODS= names no method; name some, e.g. METHODS=msat,rmp, or leave it away.")
    return list(dict.fromkeys(choices))


def words(text: str) -> list[str]:
    """Return a method's name and its parameters, which colons, semicolons or spaces set apart."""
    return re.split(r"[:;\s]+", re.sub(r"\s*=\s*", "=", text).strip(" :;"))


def _choice(registry: Registry, text: str) -> Choice:
    name, *parameters = words(text)
    if "=" in name:
        raise UserError(
            f"'{name}' has no method; commas set methods apart, spaces their parameters:"
            " METHODS='kappa fraction=0.3,msat det=false dtt=true'."
        )
    factory = registry.method(name)
    given = dict(_assignment(part, name) for part in parameters)
    check_parameters(factory, given)
    return Choice(factory, tuple(sorted((k, v) for k, v in given.items() if v != factory.defaults[k])))


def _assignment(text: str, method: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"parameter '{text}' of method '{method}' has no value; write '{method} {text}=VALUE'.")
    return name, parse(value)


def parse(text: str) -> Any:
    """Return a Python literal, a truth value, or else the text itself."""
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def check_parameters(factory: MethodFactory, given: Mapping[str, Any]) -> None:
    """Refuse unknown parameters, and values outside a parameter's `Literal` or of another type than its default."""
    signature = inspect.signature(factory.build).parameters
    for name, value in given.items():
        if name not in signature:
            raise unknown_name(f"parameter of method '{factory.name}'", name, signature or ["(none)"])
        wanted, default = signature[name].annotation, signature[name].default
        if get_origin(wanted) is Literal:
            if value not in get_args(wanted):
                raise unknown_name(f"value of {factory.name}:{name}", str(value), map(str, get_args(wanted)))
        elif isinstance(default, bool) != isinstance(value, bool) or not _fits(value, default):
            raise UserError(
                f"{factory.name}:{name}={value} is of the wrong type; give a {type(default).__name__}, e.g. {default}."
            )


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, int | float):
        return isinstance(value, int | float)
    return default is None or isinstance(value, type(default))
