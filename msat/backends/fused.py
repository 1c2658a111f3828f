"""A step of a population as one kernel: torch.compile joins its tensor operations, which otherwise read all states each.

On a GPU inductor writes the kernel in Triton, on a CPU in C++: the same code runs in the tests. Sizes are symbols in the
kernel, so that layers of all shapes share one. What dynamo compiles it keeps with the function's code object, at most
eight variants of it, and then falls back to eager without a word; here each kind of call therefore has a code object of
its own, and `fullgraph` turns what is left of that silence into an error.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from types import FunctionType
from typing import Any, cast

import torch
from torch import Tensor

from msat.adaptive import AdaptiveState, AdaptiveThreshold
from msat.backends.trees import changed, tensors
from msat.coding import DifferentialNeuron
from msat.multithreshold import HybridMultiThreshold, MultiThreshold, Retracting
from msat.neurons import Burst, Emission, IntegrateAndFire, Population
from msat.signed import SignedIntegrateAndFire

PLAIN = {IntegrateAndFire, Burst, SignedIntegrateAndFire, MultiThreshold, Retracting, HybridMultiThreshold}
"""Populations whose `step` is the same tensor arithmetic at every step; a subclass may be anything."""
Step = Callable[[Population, Tensor, Any], tuple[Emission, Any]]


def fusible(population: Population) -> bool:
    """Return whether a population's step can be one kernel: the same tensor arithmetic at every step.

    Not so where a step looks at its own number or at the samples' (spike confidence). Neurons that are not known here,
    such as a plugin's, and pools, whose maps differ too much, run as they are.
    """
    if isinstance(population, DifferentialNeuron):
        return type(population.inner) in PLAIN
    if isinstance(population, AdaptiveThreshold):
        return type(population) in (AdaptiveThreshold, Later) and population.confidence is None
    return type(population) in PLAIN


class Later(AdaptiveThreshold):
    """MSAT's neuron behind its first step, the only one whose course depends on the step's number (M2)."""

    def threshold_at(self, x: Tensor, state: AdaptiveState) -> Tensor:
        return super().threshold_at(x, state._replace(t=1))


def start(population: Population, current: Tensor, samples: Tensor) -> Any:
    """Return what `population.start` returns with no tensor in it twice, which would be another kernel."""
    return changed(population.start(current, samples), torch.clone)


def scan(population: Population, currents: Tensor, state: Any) -> tuple[Emission, Any]:
    """Do what `population.scan` does, with a kernel for each step where the population is `fusible`.

    Args:
        population: one whose `scan` is a loop over `step`, else its own `scan` is called.
        currents: [T, B, ...].
        state: the state before them: from `start`, or what this function returned.
    """
    if type(population).scan is not Population.scan:
        return population.scan(currents, state)
    joined, emissions = fusible(population), []
    for current in currents:
        if joined:
            population, state = prepared(population, state, current.device)
            emission, state = compiled(population, current, state)(population, current, state)
        else:
            emission, state = population.step(current, state)
        emissions.append(emission)
    events = [e.events for e in emissions if e.events is not None]
    return Emission(_stacked([e.output for e in emissions]), _stacked(events) if events else None), state


def prepared(population: Population, state: Any, device: torch.device) -> tuple[Population, Any]:
    """Return a neuron and a state with no number of a step built in, but for MSAT's first step, a kernel of its own."""
    if type(population) is AdaptiveThreshold:
        if isinstance(state.t, int) and state.t == 0:
            return population, state
        population = Later(**{field.name: getattr(population, field.name) for field in fields(population)})
    return population, counted(state, device)


def counted(state: Any, device: torch.device) -> Any:
    """Return the state with numbers of steps (fields named `t`) as int64 tensors: a kernel has no number built in."""
    if not isinstance(state, tuple) or not hasattr(state, "_fields"):
        return state
    new = {name: counted(part, device) for name, part in zip(state._fields, state, strict=True)}
    if isinstance(new.get("t"), int):
        new["t"] = torch.full((), new["t"], dtype=torch.int64, device=device)
    return type(state)(**new)


def compiled(population: Population, current: Tensor, state: Any) -> Step:
    """Return the kernel for this kind of population and these layouts; it is compiled when first called."""
    from torch._dynamo import maybe_mark_dynamic  # takes a second, which a CPU's run need not spend

    for tensor in (current, *tensors(state), *parameters(population)):
        for dim in range(tensor.dim()):
            maybe_mark_dynamic(tensor, dim)
    return _kernel(signature((current, state, population)))


def parameters(population: Population) -> list[Tensor]:
    """Return the tensors among the fields of a population and of the populations inside it."""
    values = [getattr(population, field.name) for field in fields(population)]  # type: ignore[arg-type]
    return [x for value in values for x in (parameters(value) if isinstance(value, Population) else tensors(value))]


def signature(value: Any) -> Any:
    """Return what kernels are told apart by: kinds and plain numbers, and of tensors all but their sizes."""
    if isinstance(value, Tensor):
        order = tuple(sorted(range(value.dim()), key=value.stride))
        special = tuple((size == 1, stride == 0) for size, stride in zip(value.shape, value.stride(), strict=True))
        return value.device, value.dtype, order, special
    if isinstance(value, tuple):
        return type(value), *(signature(part) for part in value)
    if isinstance(value, Population) and is_dataclass(value):
        return type(value), *(signature(getattr(value, field.name)) for field in fields(value))
    return value


@cache
def _kernel(kind: Any) -> Step:  # noqa: ARG001
    own = FunctionType(_step.__code__.replace(co_name="fused_step"), _step.__globals__)
    return cast(Step, torch.compile(own, fullgraph=True))


def _step(population: Population, current: Tensor, state: Any) -> tuple[Emission, Any]:
    return population.step(current, state)


def _stacked(maps: list[Tensor]) -> Tensor:
    """Stack [B, ...] to [T, B, ...]; maps with their channels last in memory, as the next convolution wants them."""
    if len(maps) == 1:
        return maps[0].unsqueeze(0)
    if maps[0].dim() != 4:
        return torch.stack(maps)
    return torch.stack([x.permute(0, 2, 3, 1) for x in maps]).permute(0, 1, 4, 2, 3)
