"""BSNN: bistable neurons that accumulate in one half of a cycle and fire in the other (Li, Zeng & Zhao 2022; methods.md C3)."""

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from msat.calibration import Calibration
from msat.method import Axes, Correction, method
from msat.network import MaxPool, Network, Readout, Relu, SpikingNetwork, Stage
from msat.neurons import Emission, Neuron, Operations, Population, Tally
from msat.pooling import LateralInhibition
from msat.thresholds import Percentile


class BistableState(NamedTuple):
    v: Tensor
    t: int


def accumulates(t: int, depth: int, half: int) -> bool:
    """Return whether a layer accumulates at step t (from 0): layers at even depth do so in even half-cycles."""
    return t // half % 2 == depth % 2


@dataclass(frozen=True, eq=False)
class Bistable(Neuron):
    """Accumulates for `half` steps without a spike, then fires for `half` steps without input."""

    half: int = 4
    """K: half a cycle, steps."""
    depth: int = 0
    """Layers in front of this one; set once the network is converted."""
    operations = Operations(additions=2)
    gain: ClassVar[float] = 2.0

    def start(self, current: Tensor, samples: Tensor) -> BistableState:
        return BistableState(self.rest(current), 0)

    def step(self, current: Tensor, state: BistableState) -> tuple[Emission, BistableState]:
        if accumulates(state.t, self.depth, self.half):
            return Emission(torch.zeros_like(current)), BistableState(state.v + current, state.t + 1)  # (1)
        s = (state.v >= self.threshold).to(current)  # (2)
        return Emission(self.threshold * s), BistableState(state.v - self.threshold * s, state.t + 1)


@dataclass(frozen=True, eq=False)
class BistableReadout(Population):
    """Sums the currents of its accumulating half-cycles, so that the bias weighs as much as in the other layers."""

    half: int
    depth: int
    operations = Operations(additions=1)

    def start(self, current: Tensor, samples: Tensor) -> Tally:
        return Tally(torch.zeros_like(current), 0)

    def step(self, current: Tensor, state: Tally) -> tuple[Emission, Tally]:
        score = state.score + current if accumulates(state.t, self.depth, self.half) else state.score
        return Emission(score), Tally(score, state.t + 1)


def depths(network: Network) -> dict[int, int]:
    """Return the number of sites in front of every stage on its longest path; a max-pool is as deep as what it pools."""
    depth: dict[int, int] = {}
    for position, stage in enumerate(network.stages):
        front = max((depth[source] for source in stage.sources if source >= 0), default=-1)
        depth[position] = front if isinstance(stage.rule, MaxPool) else front + 1
    return depth


def with_relays(network: Network) -> Network:
    """Return the network with a relay site on every shortcut whose spikes would arrive in the wrong half-cycle.

    A relay is a site with one synapse from its source; ReLU leaves what it gets as it is, so the ANN's answers stay.
    """
    depth = depths(network)
    stages: list[Stage] = []
    moved: dict[int, int] = {}
    relays: dict[int, int] = {}
    for position, stage in enumerate(network.stages):
        spiking = [source for source in stage.sources if source >= 0]
        front = max((depth[source] for source in spiking), default=0)
        late = {source for source in spiking if (front - depth[source]) % 2}
        for source in sorted(late - relays.keys()):
            relays[source] = len(stages)
            stages.append(Stage(f"{network.stages[source].name}.relay", (moved[source],), nn.Identity(), Relu()))
        sources = tuple(s if s < 0 else relays[s] if s in late else moved[s] for s in stage.sources)
        moved[position] = len(stages)
        stages.append(replace(stage, sources=sources))
    return replace(network, stages=tuple(stages))


@dataclass(frozen=True)
class Relayed(LateralInhibition):
    """Lateral inhibition inside a half-cycle, in a network with relays on its shortcuts."""

    def arrange(self, network: Network) -> Network:
        return with_relays(network)


@dataclass(frozen=True)
class AssignPhases(Correction):
    """Tells every layer its depth, which decides in which half-cycle it fires."""

    half: int
    rate_only: ClassVar[str] = "half-cycles without input have no change to send; drop one of the two"

    def apply(self, network: SpikingNetwork, calibration: Calibration) -> SpikingNetwork:
        for position, depth in depths(network.network).items():
            population = network.stages[position].population
            if isinstance(population, Bistable):
                network = network.with_stage(position, population=replace(population, depth=depth))
            elif isinstance(network.stages[position].stage.rule, Readout):
                network = network.with_stage(position, population=BistableReadout(self.half, depth))
        return network


@method(
    "Li, Zeng & Zhao 2022, Front. Neurosci.",
    reconstruction="equations reconstructed from the text; half-cycles of 4 steps. A neuron fires in half of all steps, so mean outputs are"
    " half the activations, and the answer of L layers starts after L half-cycles.",
)
def bsnn(half: int = 4, percentile: float = 99.9) -> Axes:
    """Bistable neurons with relays on shortcuts."""
    return Axes(
        threshold=Percentile(percentile),
        neuron=Bistable(half=half),
        pool=Relayed(),
        corrections=(AssignPhases(half),),
    )
