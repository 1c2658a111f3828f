"""Adds test inputs to what is measured: counts are sums over inputs, so a larger LIMIT simulates only what is new."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.differences import differences
from benchmarks.records import Population, Result, pack, unpack

COUNTED = ("spikes", "synaptic_events", "synaptic_spikes")
"""What a population counts over test inputs."""


def same_conversion(one: Result, other: Result) -> bool:
    """Return whether two results, on whatever test inputs, come from the same spiking network and are counted alike.

    What does not depend on test inputs must agree: thresholds, operations and, on the diagnosed calibration inputs, every
    site's spikes. Another processor's rounding, or a change of the simulator, can move a spike and shows there.
    """
    return not any(differences("result", _fixed(one), _fixed(other)))


def _fixed(result: Result) -> dict[str, Any]:
    """Return what does not depend on test inputs; traces are left out, they hold currents that rounding moves."""
    fields = result.model_dump(exclude={"traces", "correct", "agree", "bits", "populations"})
    kinds = {name: list(fields.pop(name)) for name in ("events", "spikes")}
    populations = [population.model_dump(exclude=set(COUNTED)) for population in result.populations]
    return fields | kinds | {"populations": populations}


def joined(one: Result, other: Result, numbers: tuple[Tensor, Tensor]) -> Result:
    """Return the result over the test inputs of two results of the same conversion.

    It is that of one run but for what the rounding of a convolution, which depends on the batch, moves.

    Args:
        one: counts over some inputs.
        other: counts over other ones; what does not depend on test inputs is taken from it.
        numbers: the inputs' numbers in the test split, int64, ascending in each.
    """
    order = torch.cat(numbers).argsort()
    sizes = [len(part) for part in numbers]

    def bits(texts: tuple[str, str]) -> str:
        return pack(torch.cat([torch.tensor(unpack(t, size)) for t, size in zip(texts, sizes, strict=True)])[order])

    return other.model_copy(
        update={
            "correct": _sum(one.correct, other.correct),
            "agree": _sum(one.agree, other.agree),
            "events": _sum_kinds(one.events, other.events),
            "spikes": _sum_kinds(one.spikes, other.spikes),
            "bits": [bits(texts) for texts in zip(one.bits, other.bits, strict=True)],
            "populations": [_population(*pair) for pair in zip(one.populations, other.populations, strict=True)],
        }
    )


def _population(one: Population, other: Population) -> Population:
    return other.model_copy(update={name: _sum(getattr(one, name), getattr(other, name)) for name in COUNTED})


def _sum_kinds(one: Mapping[str, Sequence[int]], other: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    return {kind: _sum(one[kind], values) for kind, values in other.items()}


def _sum(one: Sequence[int], other: Sequence[int]) -> list[int]:
    return [a + b for a, b in zip(one, other, strict=True)]
