"""Neurons that read a whole run before they send (parallel conversion, SpikeConverter): one pass of the synapses for all steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from msat.backends.base import DenseTraffic, Traffic
from msat.backends.events_stages import Constant, Runner
from msat.backends.events_synapses import Synapses
from msat.backends.events_write import AHEAD
from msat.neurons import Emission
from msat.window import Sending, WindowNeuron


@dataclass(frozen=True, eq=False)
class Sender(Sending):
    """The second phase as runners take it, which try a neuron for `AHEAD` steps from its start."""

    def start(self, current: Tensor, samples: Tensor) -> Any:
        """Return the state after random charges, below none and beyond a spike a step too; a run brings its own."""
        make = torch.Generator().manual_seed(0)
        return self.neuron.read(AHEAD * self.threshold * torch.randn(current.shape, generator=make), AHEAD)


UNREAD = Constant(lambda sources: sources[0].output()[0], once=False)
"""Current of the second phase: a runner wants one, the neurons do not."""


class WindowRunner(Runner):
    """Sums the currents of a run, then lets another runner send.

    Synapses are linear, so the mean of a run's currents is the current of its mean output: one pass serves for all steps.

    Args:
        synapses: what feeds the neurons.
        population: the neurons.
        sender: runs their second phase, with `UNREAD` for its current.
        constant: current of a constant stage, else None.
    """

    def __init__(self, synapses: Synapses, population: WindowNeuron, sender: Runner, constant: Constant | None) -> None:
        self.synapses, self.population, self.sender, self.constant = synapses, population, sender, constant

    def advance(
        self, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        total = self.total(sources, first, count)
        charge = self.population.rest(total) + total
        current = DenseTraffic(Emission(charge.unsqueeze(0)))
        traffic, _ = self.sender.advance([current], self.population.read(charge, count), samples, first, count)
        return traffic, state

    def total(self, sources: Sequence[Traffic], first: int, count: int) -> Tensor:
        """Return the summed currents of a run [B, ...]."""
        if self.constant:
            parts = [(end - begin) * current for begin, end, current in self.constant.parts(sources, first, count)]
            return torch.stack(parts).sum(0)
        share, stage = torch.full((count,), 1 / count), self.synapses.stage
        mean = stage.stage.synapses(*(source.totals(0, count, share)[0] for source in sources))
        return count * (mean if stage.offset is None else mean + stage.offset)
