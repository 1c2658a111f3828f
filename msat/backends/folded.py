"""Time folded into the batch: one dense pass per stage and chunk, constant currents once per input; CPU and GPU."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from msat.backends.base import Backend, DenseTraffic, Session, Traffic
from msat.backends.step import only_first
from msat.network import SpikingNetwork

FRAME_BUDGET = 4_000_000
"""Most values in the largest tensor of a chunk; beyond it a CPU's last-level cache no longer helps (performance.md 1-2)."""


class Folded(Backend):
    """Dense simulation with T x B frames in each call.

    Args:
        chunk: steps in a chunk; None chooses by the network's size.
    """

    name = "folded"

    def __init__(self, chunk: int | None = None) -> None:
        self.chunk = chunk

    def open(self, network: SpikingNetwork) -> Session:
        return FoldedSession(network, self.chunk)


class FoldedSession(Session):
    """Keeps the currents of constant stages for the batch at hand."""

    def __init__(self, network: SpikingNetwork, chunk: int | None) -> None:
        super().__init__(network)
        self.chunk = chunk
        self.largest = max(math.prod(shape) for shape in network.network.shapes())
        self.constants: dict[int, Tensor] = {}

    def chunk_steps(self, batch: int) -> int:
        return self.chunk or max(1, min(32, FRAME_BUDGET // (batch * self.largest)))

    def close_batch(self) -> None:
        self.constants.clear()

    def advance(
        self, position: int, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        stage = self.network.stages[position]
        currents = (
            self._constant(position, sources, first, count) if stage.stage.constant else self._folded(position, sources)
        )
        state = stage.population.start(currents[0], samples) if state is None else state
        emission, state = stage.population.scan(currents, state)
        return DenseTraffic(emission), state

    def _constant(self, position: int, sources: Sequence[Traffic], first: int, count: int) -> Tensor:
        stage = self.network.stages[position]
        if position not in self.constants:
            current = stage.stage.synapses(*(source.output()[0] for source in sources))
            self.constants[position] = current if stage.offset is None else current + stage.offset
        current = self.constants[position]
        currents = current.unsqueeze(0).expand(count, *current.shape)
        return only_first(currents, first) if self.network.constant_once else currents

    def _folded(self, position: int, sources: Sequence[Traffic]) -> Tensor:
        stage = self.network.stages[position]
        outputs = [source.output() for source in sources]
        count, batch = outputs[0].shape[:2]
        current = stage.stage.synapses(*(output.flatten(0, 1) for output in outputs))
        if stage.offset is not None:
            current = current + stage.offset
        return current.view(count, batch, *current.shape[1:])
