"""What is timed for one network: our backends, the ANN's own forward pass, SpikingJelly's two loops where it is installed."""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.speed.measure import Work
from benchmarks.speed.subjects import Subject
from msat.backends import Backend, Events, Folded, Step
from msat.network import SpikingNetwork
from msat.simulation import Chunk, Observer, simulate, tensor_batches

BATCHES = 4
"""Batches that our chunked backends simulate in one go: as in a run, buffers are made once and used again."""
LOOP_STEPS = 4
"""Steps of what costs the same at every step; MSAT's first is cheaper than its others by a few per cent."""
FOLDED_STEPS = 16


class Rates(Observer):
    """Share of neurons that fire at a step."""

    def __init__(self, sites: Sequence[int]) -> None:
        self.sites, self.fired, self.seen = set(sites), 0.0, 0

    def see(self, chunk: Chunk) -> None:
        if chunk.position in self.sites:
            spikes = chunk.traffic.spikes()
            self.fired += float((spikes != 0).sum())
            self.seen += spikes.numel()


def run(
    network: SpikingNetwork,
    inputs: Tensor,
    steps: int,
    backend: Backend,
    observers: Sequence[Observer] = (),
    times: int = 1,
) -> None:
    """Simulate all inputs as one batch, so many times over."""
    batches = [batch for _ in range(times) for batch in tensor_batches(inputs, len(inputs))]
    simulate(network, batches, steps, observers, backend)


def works(subject: Subject, neuron: str, steps: int) -> dict[str, tuple[Work, int]]:
    """Return what to time for one network and neuron."""
    network, inputs = subject.converted(neuron), subject.inputs
    ours: dict[str, tuple[Backend, int, int]] = {
        "events": (Events(), steps, BATCHES),
        "folded": (Folded(), min(steps, FOLDED_STEPS), BATCHES),
        "step": (Step(), LOOP_STEPS, 1),
    }
    timed: dict[str, tuple[Work, int]] = {
        name: (partial(run, network, inputs, count, backend, times=times), count * len(inputs) * times)
        for name, (backend, count, times) in ours.items()
    }
    timed["ann"] = (partial(forward, subject.module, inputs), 2 * len(inputs))
    return timed | (jelly_works(subject, network, inputs) if neuron == "IF" else {})


def jelly_works(subject: Subject, network: SpikingNetwork, inputs: Tensor) -> dict[str, tuple[Work, int]]:
    """Return SpikingJelly's two loops over a network of integrate-and-fire neurons; none where it is not installed."""
    timed: dict[str, tuple[Work, int]] = {}
    for mode, label in (("s", "spikingjelly single"), ("m", "spikingjelly multi")) if has_spikingjelly() else ():
        work = partial(spikingjelly, spikingjelly_network(subject, network, mode), inputs, mode)
        timed[label] = (work, LOOP_STEPS * len(inputs))
    return timed


def rate(network: SpikingNetwork, inputs: Tensor, steps: int) -> float:
    """Return the mean firing rate over all sites."""
    rates = Rates(network.network.sites)
    run(network, inputs, steps, Events(), [rates])
    return rates.fired / rates.seen


@torch.no_grad()
def forward(module: nn.Module, inputs: Tensor) -> None:
    module(inputs)
    module(inputs)


def has_spikingjelly() -> bool:
    """Return whether the optional extra `speed` is installed."""
    try:
        import spikingjelly.activation_based.neuron  # noqa: F401
    except ImportError:
        return False
    return True


class JellyNeuron(nn.Module):
    """SpikingJelly's IF neuron in place of a ReLU: spikes times the threshold; in multi-step mode over frames [T x B, ...]."""

    def __init__(self, threshold: Tensor, mode: str) -> None:
        super().__init__()
        from spikingjelly.activation_based import neuron

        self.threshold = float(threshold)
        self.node = neuron.IFNode(v_threshold=self.threshold, v_reset=None, step_mode=mode)

    def forward(self, x: Tensor) -> Tensor:
        if self.node.step_mode == "s":
            return self.node(x) * self.threshold
        return self.node(x.unflatten(0, (LOOP_STEPS, -1))).flatten(0, 1) * self.threshold


def spikingjelly_network(subject: Subject, network: SpikingNetwork, mode: str) -> nn.Module:
    """Return the ANN with each ReLU module replaced by SpikingJelly's neuron with our threshold."""
    module = copy.deepcopy(subject.module)
    thresholds = {
        network.network.stages[p].name.split("#")[0]: stage.population for p, stage in enumerate(network.stages)
    }
    for name, layer in list(module.named_modules()):
        if isinstance(layer, nn.ReLU):
            population: Any = thresholds[name]
            parent = module.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], JellyNeuron(population.threshold.max(), mode))
    return module


@torch.no_grad()
def spikingjelly(module: nn.Module, inputs: Tensor, mode: str) -> None:
    """Run some steps: one after another, or all in one pass with time folded into the batch, as SpikingJelly's layers do."""
    from spikingjelly.activation_based import functional

    functional.reset_net(module)
    if mode == "m":
        module(inputs.repeat(LOOP_STEPS, *[1] * (inputs.dim() - 1)))
        return
    total = torch.zeros(())
    for _ in range(LOOP_STEPS):
        total = total + module(inputs)
