"""Compares stored measurements: counts must be equal, sums of float32 values up to rounding."""

from collections.abc import Iterator
from typing import Any

ROUNDING = 1e-4
"""Largest relative difference that the order of additions explains."""


def differences(name: str, there: Any, here: Any) -> Iterator[str]:
    """Yield a sentence for every value that is not the same here as there; floats may differ by rounding."""
    if isinstance(there, dict) and isinstance(here, dict) and there.keys() == here.keys():
        for key in there:
            yield from differences(f"{name}.{key}", there[key], here[key])
    elif isinstance(there, list | tuple) and isinstance(here, list | tuple) and len(there) == len(here):
        for index, (old, new) in enumerate(zip(there, here, strict=True)):
            yield from differences(f"{name}[{index}]", old, new)
    elif isinstance(there, float) and isinstance(here, float):
        if abs(there - here) > ROUNDING * max(abs(there), abs(here)):
            yield f"{name}: {there} in the record, {here} now"
    elif there != here:
        yield f"{name}: {there} in the record, {here} now"
