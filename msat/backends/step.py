"""The plain step loop, the oracle for the other backends: every synapse and every neuron is evaluated at every step."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from msat.backends.base import Backend, DenseTraffic, Session, Traffic
from msat.network import SpikingNetwork


class Step(Backend):
    """One step at a time, no caching; what every tool of the field does."""

    name = "step"

    def open(self, network: SpikingNetwork) -> Session:
        return StepSession(network)


class StepSession(Session):
    """Currents are computed step by step, also those of constant stages."""

    def chunk_steps(self, batch: int) -> int:
        return 1

    def advance(
        self, position: int, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        stage = self.network.stages[position]
        outputs = [source.output() for source in sources]
        currents = torch.stack([stage.stage.synapses(*(output[t] for output in outputs)) for t in range(count)])
        if stage.offset is not None:
            currents = currents + stage.offset
        if self.network.constant_once and stage.stage.constant:
            currents = only_first(currents, first)
        state = stage.population.start(currents[0], samples) if state is None else state
        emission, state = stage.population.scan(currents, state)
        return DenseTraffic(emission), state


def only_first(currents: Tensor, first: int) -> Tensor:
    """Silence a constant stage after step 1: under differential coding its bias, too, is sent once."""
    silenced = torch.zeros_like(currents)
    if first == 0:
        silenced[0] = currents[0]
    return silenced
