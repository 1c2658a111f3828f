"""SRP: a first pass finds the neurons that end below zero; in the second they are mute (Hao et al. 2023; methods.md D5)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from msat.backends import Folded
from msat.method import Axes, Initial, method
from msat.network import SpikingNetwork, WarmUp
from msat.neurons import Emission, Neuron
from msat.simulation import Chunk, Observer, simulate
from msat.thresholds import Percentile


class Masked(NamedTuple):
    """State of a neuron that may be mute."""

    v: Tensor
    mask: Tensor
    """1 where spikes are sent, 0 where they only reset the neuron itself."""


@dataclass(frozen=True, eq=False)
class MaskedIntegrateAndFire(Neuron):
    """IF neuron whose spikes pass a mask that the first pass has set."""

    def start(self, current: Tensor, samples: Tensor) -> Masked:
        return Masked(self.rest(current), torch.ones_like(current))

    def step(self, current: Tensor, state: Masked) -> tuple[Emission, Masked]:
        m = state.v + current
        s = (m >= self.threshold).to(m)
        return Emission(self.threshold * s * state.mask), Masked(m - self.threshold * s, state.mask)


class LastStates(Observer):
    """Keeps the state of every population after the latest chunk, and shows each chunk to `observe`."""

    def __init__(self, observe: Callable[[Chunk], None]) -> None:
        self.states: dict[int, Any] = {}
        self.observe = observe

    def see(self, chunk: Chunk) -> None:
        self.states[chunk.position] = chunk.state
        self.observe(chunk)


@dataclass(frozen=True)
class ResidualPotential(WarmUp):
    """tau steps of the whole network; mask = [v(tau) / theta > 0.001], then the potentials start afresh."""

    tau: int
    neurons: ClassVar[tuple[type, ...]] = (MaskedIntegrateAndFire,)

    def states(
        self, network: SpikingNetwork, inputs: Tensor, samples: Tensor, observe: Callable[[Any], None]
    ) -> list[Any]:
        last = LastStates(observe)
        simulate(replace(network, warm_up=None), [(inputs, samples)], self.tau, [last], Folded())
        return [masked(stage.population, last.states[p]) for p, stage in enumerate(network.stages)]

    def steps(self, layers: int) -> int:
        return self.tau

    @property
    def neuron_steps(self) -> int:
        return self.tau


def masked(population: Any, state: Any) -> Masked | None:
    """Return the start state of the second pass; None for pools and readouts."""
    if not isinstance(population, MaskedIntegrateAndFire):
        return None
    return Masked(population.rest(state.v), (state.v > 0.001 * population.threshold).to(state.v))


@method(
    "Hao et al. 2023, AAAI (SRP)",
    reconstruction="the paper converts quantised (QCFS) networks; here the plain ANN with a percentile as threshold.",
)
def srp(tau: int = 4, q: float = 99.9) -> Axes:
    """SRP: neurons with a negative residual potential are mute in a second pass."""
    return Axes(
        threshold=Percentile(q),
        neuron=MaskedIntegrateAndFire(),
        initial=Initial(0.5),
        warm_up=ResidualPotential(tau),
    )
