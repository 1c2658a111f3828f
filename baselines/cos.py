"""COS: initial potentials shifted so that a neuron that fired once too often or too seldom is right (Hao et al. 2023; methods.md D6)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from msat.backends import Folded, Traffic
from msat.method import Axes, Initial, method
from msat.network import SpikingNetwork, WarmUp, last_use
from msat.neurons import Emission, IntegrateAndFire, Membrane, Neuron
from msat.simulation import Chunk
from msat.thresholds import Percentile


class Watched(NamedTuple):
    """State of a neuron in phase A; potentials in activation units."""

    v: Tensor
    n: Tensor
    """Spikes so far."""
    lowest: Tensor
    """Least potential before firing over the steps with a spike."""
    highest: Tensor
    """Greatest potential over the silent steps."""


@dataclass(frozen=True, eq=False)
class WatchedNeuron(Neuron):
    """IF neuron that keeps what phase A needs."""

    def start(self, current: Tensor, samples: Tensor) -> Watched:
        infinite = torch.full_like(current, float("inf"))
        return Watched(self.rest(current), torch.zeros_like(current), infinite, -infinite)

    def step(self, current: Tensor, state: Watched) -> tuple[Emission, Watched]:
        m = state.v + current
        fires = m >= self.threshold
        s = fires.to(m)
        lowest = torch.where(fires, torch.minimum(state.lowest, m), state.lowest)
        highest = torch.where(fires, state.highest, torch.maximum(state.highest, m))
        return Emission(self.threshold * s), Watched(m - self.threshold * s, state.n + s, lowest, highest)

    def shifted(self, state: Watched) -> Tensor:
        """Return v0 of phase B from the state after phase A, activation units."""
        theta, v0 = self.threshold, self.rest(state.v)
        surplus = (state.v < 0) & (state.n > 0)  # one spike too many
        lacking = (state.v >= theta) & state.highest.isfinite()  # one too few, and a silent step to put it in
        down = v0 - torch.maximum(theta, state.lowest - 0.999 * theta)
        up = v0 + torch.maximum(theta, 1.001 * theta - state.highest)
        return torch.where(surplus, down, torch.where(lacking, up, v0))


@dataclass(frozen=True)
class OffsetSpikes(WarmUp):
    """Layer by layer: rho steps to see the offset (phase A), then the next layer sees the layer with its new v0 (phase B).

    Both phases of a layer use the same currents, so its input crosses the synapses once; its neurons run twice.
    """

    rho: int
    neurons: ClassVar[tuple[type, ...]] = (IntegrateAndFire,)

    def states(
        self, network: SpikingNetwork, inputs: Tensor, samples: Tensor, observe: Callable[[Any], None]
    ) -> list[Any]:
        plain = replace(network, warm_up=None)
        watched = replace(plain, stages=tuple(replace(s, population=watch(s.population)) for s in network.stages))
        phase_a, phase_b = Folded().open(watched), Folded().open(plain)
        last = last_use([stage.stage for stage in network.stages])
        sent: dict[int, Traffic] = {
            -1 - k: phase_b.constant(c, 0, self.rho) for k, c in enumerate(network.network.front(inputs))
        }
        states: list[Any] = []
        for position, stage in enumerate(watched.stages):
            sources, state = [sent[source] for source in stage.stage.sources], None
            if isinstance(stage.population, WatchedNeuron):
                _, seen = phase_a.advance(position, sources, None, samples, 0, self.rho)
                state = Membrane(stage.population.shifted(seen))
            states.append(state)
            sent[position], _ = phase_b.advance(position, sources, state, samples, 0, self.rho)
            observe(Chunk(position, plain.stages[position], 0, sent[position], samples, None))
            sent = {source: t for source, t in sent.items() if last.get(source, -1) > position}
        return states

    def steps(self, layers: int) -> int:
        return layers * self.rho

    @property
    def neuron_steps(self) -> int:
        return 2 * self.rho


def watch(population: Any) -> Any:
    """Return the neuron that phase A runs in a neuron's place; pools and readouts stay."""
    if not isinstance(population, IntegrateAndFire):
        return population
    return WatchedNeuron(threshold=population.threshold, initial=population.initial)


@method(
    "Hao et al. 2023, ICLR (COS)",
    reconstruction="the paper converts quantised (QCFS) networks; here the plain ANN with a percentile as threshold; a"
    " neuron that fires at every step keeps its potential.",
)
def cos(rho: int = 4, q: float = 99.9) -> Axes:
    """COS: initial potentials that undo offset spikes, found layer by layer in a first pass."""
    return Axes(threshold=Percentile(q), initial=Initial(0.5), warm_up=OffsetSpikes(rho))
