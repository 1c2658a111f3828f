"""Tensors inside nested tuples, such as emissions and states: listed in order, and put back."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from torch import Tensor

T = TypeVar("T")


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors of nested (named) tuples in order; anything else is passed over."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value for tensor in tensors(part)] if isinstance(value, tuple) else []


def changed(value: T, change: Callable[[Tensor], Any]) -> T:
    """Return nested (named) tuples with every tensor changed and everything else as it is."""
    if isinstance(value, Tensor):
        return cast(T, change(value))
    if not isinstance(value, tuple):
        return value
    parts = [changed(part, change) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
