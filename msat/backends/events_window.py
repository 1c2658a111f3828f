"""Neurons that read a whole run before they send (parallel conversion, SpikeConverter): one pass of the synapses for all steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msat.backends.base import DenseTraffic, Traffic
from msat.backends.events_stages import Constant, Runner
from msat.backends.events_synapses import Synapses
from msat.neurons import Emission, Neuron
from msat.window import WindowNeuron

TRIAL = 8
"""Steps of the runs in which a kernel is tried."""


@dataclass(frozen=True, eq=False)
class Sending(Neuron):
    """The second phase of a window neuron by itself: it reads no current."""

    reader: WindowNeuron

    def start(self, current: Tensor, samples: Tensor) -> Any:
        """Return the state after some charges between none and a spike a step, for trials; a run brings its own."""
        share = torch.rand(current.shape, generator=torch.Generator().manual_seed(0))
        return self.reader.read(TRIAL * self.reader.threshold * share, TRIAL)

    def step(self, current: Tensor, state: Any) -> tuple[Emission, Any]:
        return self.reader.send(state)


def sending(population: WindowNeuron) -> Sending:
    """Return a neuron's second phase."""
    return Sending(population, threshold=population.threshold)


# A runner wants a current; one that nothing reads can be anything.
CHARGE = Constant(lambda sources: sources[0].output()[0], once=False)
"""Current of the second phase."""


class Left(NamedTuple):
    """State after a run, worked out only if another one follows."""

    charge: Tensor
    sent: Traffic

    @property
    def v(self) -> Tensor:
        """The charge that was not sent."""
        steps = self.sent.steps
        return self.charge - self.sent.totals(0, steps, torch.ones(steps))[0]


class WindowRunner(Runner):
    """Sums the currents of a run, then lets another runner send.

    Synapses are linear, so the mean of a run's currents is the current of its mean output: one pass serves for all steps.

    Args:
        synapses: what feeds the neurons.
        population: the neurons.
        sender: runs their second phase, with `CHARGE` for its current.
        constant: current of a constant stage, else None.
    """

    def __init__(self, synapses: Synapses, population: WindowNeuron, sender: Runner, constant: Constant | None) -> None:
        self.synapses, self.population, self.sender, self.constant = synapses, population, sender, constant

    def advance(
        self, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        total = self.total(sources, first, count)
        state = self.population.start(total, samples) if state is None else state
        charge = state.v + total
        current = DenseTraffic(Emission(charge.unsqueeze(0)))
        traffic, _ = self.sender.advance([current], self.population.read(charge, count), samples, first, count)
        return traffic, Left(charge, traffic)

    def total(self, sources: Sequence[Traffic], first: int, count: int) -> Tensor:
        """Return the summed currents of a run [B, ...]."""
        if self.constant:
            parts = [(end - begin) * current for begin, end, current in self.constant.parts(sources, first, count)]
            return torch.stack(parts).sum(0)
        share, stage = torch.full((count,), 1 / count), self.synapses.stage
        mean = stage.stage.synapses(*(source.totals(0, count, share)[0] for source in sources))
        return count * (mean if stage.offset is None else mean + stage.offset)
