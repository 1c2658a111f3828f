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

    Chosen by the mean current: the largest, the median of those above zero, and of those at or below zero the one that
    sends most – a spike of an inactivated neuron, if there is one.
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
    return [_trace(name, neuron, log[:, neuron]) for neuron in _chosen(log)]


def _chosen(log: Tensor) -> list[int]:
    mean, sent = log[0].mean(1), log[3].sum(1)
    order = mean.argsort(descending=True).tolist()
    positive = [n for n in order if mean[n] > 0]
    silent = [n for n in order if mean[n] <= 0]
    found = [order[0], *positive[len(positive) // 2 :][:1], *sorted(silent, key=lambda n: -float(sent[n]))[:1]]
    return list(dict.fromkeys(found))


def _trace(site: str, neuron: int, values: Tensor) -> NeuronTrace:
    current, threshold, potential, output = ([float(f"{v:.4g}") for v in row] for row in values.tolist())
    return NeuronTrace(
        site=site, neuron=neuron, current=current, threshold=threshold, potential=potential, output=output
    )
