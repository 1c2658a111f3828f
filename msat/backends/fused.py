"""Several steps of a population as one kernel: torch.compile unrolls `step`, so state stays in registers between steps.

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
from msat.backends.split import Unit
from msat.backends.trees import changed, tensors
from msat.coding import DifferentialNeuron, DifferentialPool, DifferentialReadout
from msat.multithreshold import HybridMultiThreshold, MultiThreshold, Retracting
from msat.neurons import Burst, Emission, IntegrateAndFire, Population, SumReadout
from msat.pooling import GatePool, LateralInhibitionPool, SpikingPool, StepMaximumPool
from msat.signed import SignedIntegrateAndFire

UNROLL = 16
"""Steps in one kernel: state is read and written once in so many steps."""
FUSED = 1024
"""Most operations that inductor joins to one kernel: all of a chunk; with its own 64, MSAT's 16 steps fall apart."""
PLAIN = {
    IntegrateAndFire, Unit, Burst, SignedIntegrateAndFire, MultiThreshold, Retracting, HybridMultiThreshold,
    LateralInhibitionPool, GatePool, StepMaximumPool, SumReadout, DifferentialReadout,
}  # fmt: skip
"""Populations whose `step` is the same tensor arithmetic at every step; a subclass may be anything."""
Scan = Callable[[Population, Tensor, Any], tuple[Emission, Any]]


def unrollable(population: Population) -> bool:
    """Return whether a population's steps can be put together, and recorded: the same tensor arithmetic at every step.

    Not so where a step looks at its own number or at the samples' (spike confidence); neurons that are not known here,
    such as a plugin's, run step by step.
    """
    if isinstance(population, DifferentialNeuron | DifferentialPool):
        return type(population.inner) in PLAIN
    if isinstance(population, AdaptiveThreshold):
        return type(population) in (AdaptiveThreshold, Later) and population.confidence is None
    return type(population) in PLAIN


class Later(AdaptiveThreshold):
    """MSAT's neuron behind its first step, the only one whose course depends on the step's number (M2)."""

    def threshold_at(self, x: Tensor, state: AdaptiveState) -> Tensor:
        return super().threshold_at(x, state._replace(t=1))


def scan(population: Population, currents: Tensor, state: Any, steps: int = UNROLL) -> tuple[Emission, Any]:
    """Do what `population.scan` does, `steps` steps in a kernel and what remains of the chunk step by step.

    Pools run step by step: each step would be two kernels all the same, compiled anew for every shape of a map.

    Args:
        population: an `unrollable` one.
        currents: [T, B, ...].
        state: the state before them: `prepared`, or what this function returned.
        steps: steps in a kernel.
    """
    emissions = []
    pools = isinstance(getattr(population, "inner", population), SpikingPool)
    for part in currents.split(steps):
        run = type(population).scan if pools or len(part) < steps else compiled(population, part, state)
        emission, state = run(population, part, state)
        population, state = later(population), counted(state, currents.device)
        emissions.append(emission)
    if len(emissions) == 1:
        return emissions[0], state
    events = [e.events for e in emissions if e.events is not None]
    return Emission(torch.cat([e.output for e in emissions]), torch.cat(events) if events else None), state


def prepared(population: Population, state: Any, device: torch.device) -> Any:
    """Return a start state for `scan`: numbers of steps as tensors, and no tensor twice, which would compile anew."""
    kept = state if isinstance(population, AdaptiveThreshold) else counted(state, device)
    return changed(kept, torch.clone)


def later(population: Population) -> Population:
    """Return what runs in a population's place once it has begun."""
    if type(population) is not AdaptiveThreshold:
        return population
    return Later(**{field.name: getattr(population, field.name) for field in fields(population)})


def counted(state: Any, device: torch.device) -> Any:
    """Return the state with numbers of steps (fields named `t`) as int64 tensors: a kernel has no number built in."""
    if not isinstance(state, tuple) or not hasattr(state, "_fields"):
        return state
    new = {name: counted(part, device) for name, part in zip(state._fields, state, strict=True)}
    if isinstance(new.get("t"), int):
        new["t"] = torch.full((), new["t"], dtype=torch.int64, device=device)
    return type(state)(**new)


def compiled(population: Population, currents: Tensor, state: Any) -> Scan:
    """Return the kernel for this kind of population and these layouts; it is compiled when first called."""
    from torch._dynamo import maybe_mark_dynamic  # takes a second, which a CPU's run need not spend

    for tensor in (*tensors(state), *parameters(population)):
        for dim in range(tensor.dim()):
            maybe_mark_dynamic(tensor, dim)
    for dim in range(1, currents.dim()):
        maybe_mark_dynamic(currents, dim)
    return _kernel(signature((len(currents), currents, state, population)))


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
def _kernel(kind: Any) -> Scan:  # noqa: ARG001
    own = FunctionType(_unrolled.__code__.replace(co_name="unrolled"), _unrolled.__globals__)
    return cast(Scan, torch.compile(own, fullgraph=True, options={"max_fusion_size": FUSED}))


def _unrolled(population: Population, currents: Tensor, state: Any) -> tuple[Emission, Any]:
    emissions = []
    for current in currents:
        emission, state = population.step(current, state)
        emissions.append(emission)
    events = [e.events for e in emissions if e.events is not None]
    return Emission(_stacked([e.output for e in emissions]), _stacked(events) if events else None), state


def _stacked(maps: list[Tensor]) -> Tensor:
    """Stack [B, ...] to [T, B, ...]; maps with their channels last in memory, as the next convolution wants them."""
    if maps[0].dim() != 4:
        return torch.stack(maps)
    return torch.stack([x.permute(0, 2, 3, 1) for x in maps]).permute(0, 1, 4, 2, 3)
