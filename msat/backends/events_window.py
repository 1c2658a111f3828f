"""Neurons that read a whole run before they send (parallel conversion, SpikeConverter): their currents are summed first."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from msat.backends.base import Traffic
from msat.backends.events_lists import EventTraffic
from msat.backends.events_torch import SlicedState, TorchRunner
from msat.neurons import Neuron

TRIAL = 8
"""Steps of the runs that show what a neuron reads."""


class WindowRunner(TorchRunner):
    """The population's own PyTorch code for a whole run, a few inputs at a time.

    Synapses are linear, so the sum of a run's currents is the current of its summed spikes: where the population reads
    nothing else, one pass of the synapses serves for all steps.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.sums = isinstance(self.population, Neuron) and reads_only_the_sum(self.population, self.shape)

    def advance(
        self, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        currents = self.window(sources, len(samples), first, count)
        if not isinstance(state, SlicedState):
            state = self.sliced(currents[0], state, samples)
        traffic: EventTraffic | None = None
        parts = []
        for begin, part in zip(range(0, len(samples), state.size), state.parts, strict=True):
            emission, part = self.population.scan(currents[:, begin : begin + state.size], part)
            traffic = self.compact(emission, traffic, len(samples), 0, count, begin)
            parts.append(part)
        assert traffic is not None
        return traffic, SlicedState(tuple(parts), state.size)

    def window(self, sources: Sequence[Traffic], batch: int, first: int, count: int) -> Tensor:
        """Return the currents of the run [T, B, ...], or at every step their mean where only their sum is read."""
        constant = self.currents.constant
        if not self.sums or constant:
            parts = [part for _, _, part in self.currents.parts(sources, batch, first, count, count)]
            return parts[0] if len(parts) == 1 else torch.cat(parts)
        share = torch.full((count,), 1 / count)
        stage = self.synapses.stage
        current = stage.stage.synapses(*(source.totals(0, count, share)[0] for source in sources))
        current = current if stage.offset is None else current + stage.offset
        return current.expand(count, *current.shape)


def reads_only_the_sum(population: Neuron, shape: tuple[int, ...]) -> bool:
    """Return whether a population takes nothing from currents [T, B, ...] but their sum over the steps.

    Tried on currents that are eighths of a power of two near the threshold: sums and means of eight of them are exact.
    """
    size = 2.0 ** math.ceil(math.log2(float(population.threshold.abs().mean())))
    make = torch.Generator().manual_seed(0)
    currents = torch.randint(-8, 9, (TRIAL, 2, *shape), generator=make) / 8 * size
    sent = []
    for given in (currents, currents.mean(0).expand_as(currents)):
        emission, _ = population.scan(given, population.start(given[0], torch.tensor([3, 0])))
        sent.append(emission)
    return torch.equal(sent[0].output, sent[1].output) and torch.equal(sent[0].spikes(), sent[1].spikes())
