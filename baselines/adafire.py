"""AdaFire: as many spikes a step as each layer needs, for a budget of spikes (Wang et al. 2025; methods.md D3)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from msat.calibration import Calibration
from msat.corrections import BiasCalibration
from msat.method import Axes, Correction, method
from msat.network import Network, Relu, SpikingNetwork
from msat.neurons import Burst, Neuron
from msat.thresholds import Maximum, SquaredError, quantised

GRID = 2000
"""Most states that the dynamic program keeps: the best one in each 2000th of the budget."""


class Firing(NamedTuple):
    """How one site fires: threshold [C, 1, ...], activation units, and spikes allowed in a step."""

    theta: Tensor
    cap: int


class Candidate(NamedTuple):
    """A cap for one layer and what it does: spikes (cost) and loss of agreement with the ANN (sensitivity, nats)."""

    cap: int
    cost: float
    sensitivity: float


@dataclass(frozen=True)
class FiringCaps(Correction):
    """Chooses the spikes per step phi of every layer, then the thresholds of least squared error for them, with shift.

    Sensitivity and spike counts are those of the ANN quantised to what T steps can say, not of a simulation.
    """

    greatest: int = 4
    """Largest phi in the search, and the one that sets the budget."""
    initial: int = 8
    """phi of all other layers while one is probed."""
    ratio: float = 0.95
    """Budget as a share of the spikes at phi = `greatest` everywhere."""
    probes: int = 16
    """Calibration inputs that measure the sensitivity."""
    inputs: int = 128
    """Calibration inputs for the thresholds."""
    neurons: ClassVar[tuple[type[Neuron], ...]] = (Burst,)

    def apply(self, network: SpikingNetwork, calibration: Calibration) -> SpikingNetwork:
        steps = calibration.steps
        caps = [*range(1, self.greatest + 1), self.initial]
        table = {
            site.position: {cap: Firing(SquaredError("channel", cap).threshold(site, steps), cap) for cap in caps}
            for site in replace(calibration, inputs=calibration.inputs[: self.inputs]).sites()
        }
        chosen = self.search(table, replace(calibration, inputs=calibration.inputs[: self.probes]))
        for position, cap in chosen.items():
            neuron, theta = network.stages[position].population, table[position][cap].theta
            assert isinstance(neuron, Burst)
            neuron = replace(neuron, cap=cap, threshold=theta)
            network = network.with_stage(position, population=neuron, offset=theta / (2 * steps))
        return network

    def search(self, table: dict[int, dict[int, Firing]], calibration: Calibration) -> dict[int, int]:
        """Return phi by stage position."""
        answers = calibration.network(calibration.inputs)
        layers = [self.probe(position, table, calibration, answers) for position in table]
        budget = self.ratio * sum(candidates[-1].cost for candidates in layers)
        return dict(zip(table, cheapest_agreement(layers, budget), strict=True))

    def probe(
        self, position: int, table: dict[int, dict[int, Firing]], calibration: Calibration, answers: Tensor
    ) -> list[Candidate]:
        """Return the candidates of one layer while all others fire up to `initial` spikes a step."""
        network, inputs, steps = calibration.network, calibration.inputs, calibration.steps
        candidates = []
        for cap in range(1, self.greatest + 1):
            firing = {p: row[cap if p == position else self.initial] for p, row in table.items()}
            logits, spikes = respond(network, inputs, firing, steps)
            candidates.append(Candidate(cap, spikes[position], divergence(logits, answers)))
        return candidates


def respond(network: Network, inputs: Tensor, firing: dict[int, Firing], steps: int) -> tuple[Tensor, dict[int, float]]:
    """Return logits [B, classes] of the network quantised to T steps, and the spikes of each site over all inputs."""
    spikes: dict[int, float] = {}

    def activate(position: int, z: Tensor) -> Tensor:
        rule = network.stages[position].rule
        if not isinstance(rule, Relu):
            return rule(z)
        theta, cap = firing[position]
        a = quantised(z + theta / (2 * steps), theta, steps, cap)
        spikes[position] = float((a / theta).sum()) * steps
        return a

    *_, (_, _, logits) = network.trace(inputs, activate=activate)
    return logits, spikes


def divergence(logits: Tensor, answers: Tensor) -> float:
    """Return the symmetric Kullback-Leibler divergence of two sets of logits [B, classes], mean over inputs, nats."""
    p, q = F.log_softmax(logits, -1), F.log_softmax(answers, -1)
    return float(((p.exp() - q.exp()) * (p - q)).sum(-1).mean() / 2)


def cheapest_agreement(layers: Sequence[Sequence[Candidate]], budget: float) -> list[int]:
    """Return one cap for each layer: the least total sensitivity within the budget, by Pareto dynamic programming.

    States are sorted by cost and kept only where the sensitivity strictly falls. With no choice inside the budget the
    cheapest one is returned.
    """
    states: list[tuple[float, float, tuple[int, ...]]] = [(0.0, 0.0, ())]
    for candidates in layers:
        states = pareto(
            [(cost + c.cost, loss + c.sensitivity, (*caps, c.cap)) for cost, loss, caps in states for c in candidates],
            budget,
        )
    affordable = [state for state in states if state[0] <= budget]
    best = min(affordable, key=lambda state: state[1]) if affordable else states[0]
    return list(best[2])


def pareto(
    states: list[tuple[float, float, tuple[int, ...]]], budget: float
) -> list[tuple[float, float, tuple[int, ...]]]:
    """Return states by rising cost and strictly falling loss; the cheapest always, and one for each cell of the grid."""
    kept: list[tuple[float, float, tuple[int, ...]]] = []
    cell = -1
    for state in sorted(states):
        if kept and (state[1] >= kept[-1][1] or state[0] > budget):
            continue
        if kept[1:] and int(GRID * state[0] / budget) == cell:
            kept.pop()
        kept.append(state)
        cell = int(GRID * state[0] / budget) if budget else 0
    return kept


@method(
    "Wang et al. 2025, AAAI (AdaFire)",
    recalibrate_per_T=True,
    reconstruction="spikes per step are searched on the quantised ANN instead of by simulation, with thresholds fitted to"
    " 128 inputs; 16 probe inputs; no early exit (it needs labels), no SSC.",
)
def adafire(greatest: int = 4, initial: int = 8, ratio: float = 0.95) -> Axes:
    """AdaFire: layer-wise bursts chosen by sensitivity, with bias calibration."""
    return Axes(
        threshold=Maximum("channel"),  # replaced by the correction, which needs the caps first
        neuron=Burst(cap=initial),
        shift=True,
        corrections=(FiringCaps(greatest, initial, ratio), BiasCalibration()),
    )
