"""Follows chosen neurons of the last site over time: what a threshold does, in one picture."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.records import NeuronTrace
from msat.backends import choose
from msat.network import SpikingNetwork
from msat.neurons import Emission, Population
from msat.simulation import simulate, tensor_batches

STEPS = 64
"""Most steps that are followed."""
PRODUCTS = 30e9
"""Most multiply-accumulates spent on it; a larger network is not followed."""


@dataclass(frozen=True, eq=False)
class Probe(Population):
    """Notes current, threshold, potential and output of the population inside, at every step."""

    inner: Any
    log: list[Tensor] = field(default_factory=list)
    """For each step [4, neurons]."""

    def start(self, current: Tensor, samples: Tensor) -> Any:
        return self.inner.start(current, samples)

    def step(self, current: Tensor, state: Any) -> tuple[Emission, Any]:
        moving = getattr(self.inner, "threshold_at", None)
        threshold = moving(current, state) if moving else self.inner.threshold + torch.zeros_like(current)
        emission, state = self.inner.step(current, state)
        self.log.append(torch.stack([current[0], threshold[0], state.v[0], emission.output[0]]).flatten(1))
        return emission, state


def follow(network: SpikingNetwork, example: Tensor, steps: int, macs: int) -> list[NeuronTrace] | None:
    """Return three neurons of the last site for one input [1, ...]; None where it cannot be or is too much work.

    Chosen from the ANN, so that all methods show the same neurons: those with the largest and with the median positive
    pre-activation, and of those that should be silent the one with the largest current before any spike arrives, for it
    is the likeliest to spike all the same.
    """
    steps = min(steps, STEPS)
    position = max(network.network.sites, default=None)
    if position is None or network.warm_up or network.constant_once or steps * macs > PRODUCTS:
        return None
    population = network.stages[position].population
    if not isinstance(getattr(population, "threshold", None), Tensor) or population.window:
        return None
    if not hasattr(population.start(torch.zeros(1, *network.network.shapes()[position]), torch.zeros(1).long()), "v"):
        return None
    probe = Probe(population)
    probed = network.prefix(position).with_stage(position, population=probe)
    simulate(probed, tensor_batches(example, 1), steps, [], choose("step"))
    log = torch.stack(probe.log, 2)  # [4, neurons, steps]
    name = network.stages[position].stage.name
    ann = network.network
    clean = next(z for place, z, _ in ann.trace(example) if place == position)
    quiet = ann.trace(example, activate=lambda place, z: torch.zeros_like(ann.stages[place].rule(z)))
    first = next(z for place, z, _ in quiet if place == position)
    return [_trace(name, neuron, log[:, neuron]) for neuron in _chosen(clean.flatten(), first.flatten())]


def _chosen(z: Tensor, first: Tensor) -> list[int]:
    """Return neurons by their pre-activations and their currents before any spike, both [neurons]."""
    order = z.argsort(descending=True, stable=True)
    above = int((z > 0).sum())
    silent = first.masked_fill(z > 0, -torch.inf)
    found = [int(order[0]), int(order[above // 2]) if above else None, int(silent.argmax()) if above < len(z) else None]
    return list(dict.fromkeys(n for n in found if n is not None))


def _trace(site: str, neuron: int, values: Tensor) -> NeuronTrace:
    current, threshold, potential, output = ([float(f"{v:.4g}") for v in row] for row in values.tolist())
    return NeuronTrace(
        site=site, neuron=neuron, current=current, threshold=threshold, potential=potential, output=output
    )
