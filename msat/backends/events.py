"""Event-driven simulation on a CPU: a stage costs what its spikes cost, not what its connections would."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from msat.backends.base import Backend, Session, Traffic
from msat.backends.events_neurons import fuse
from msat.backends.events_pools import CurrentPoolRunner, PoolRunner, pools_currents
from msat.backends.events_stages import Constant, FusedRunner, Runner, WrittenRunner
from msat.backends.events_synapses import Synapses
from msat.backends.events_torch import TorchRunner
from msat.backends.events_window import UNREAD, Sender, WindowRunner
from msat.backends.events_write import named, write
from msat.backends.folded import Folded, FoldedSession
from msat.backends.kernels import NoCompiler, library
from msat.network import Network, SpikingNetwork
from msat.pooling import LateralInhibitionPool
from msat.window import WindowNeuron

CHUNK = 16
"""Steps in a chunk: enough for weights to stay in the cache, few enough for the lists to stay there too."""
LIST_BUDGET = 1 << 28
"""Most neurons x steps x inputs in one stage's lists; they take 4 to 12 bytes each where neurons fire."""
log = logging.getLogger(__name__)


class Events(Backend):
    """Event lists between stages; dense where that is faster.

    The `folded` backend runs instead where no compiler is at hand, and networks of another precision than float32.

    Args:
        chunk: steps in a chunk; None chooses.
    """

    name = "events"

    def __init__(self, chunk: int | None = None) -> None:
        self.chunk = chunk

    def open(self, network: SpikingNetwork) -> Session:
        constants = network.network.front(network.network.example)
        if any(constant.device.type != "cpu" or constant.dtype != torch.float32 for constant in constants):
            return Folded(self.chunk).open(network)
        try:
            library()
        except NoCompiler as reason:
            log.warning("events backend: %s; the folded backend runs instead.", reason)
            return Folded(self.chunk).open(network)
        return EventsSession(network, self.chunk)


class EventsSession(Session):
    """One runner for each stage; a stage that the kernels cannot hold is run by the folded session."""

    def __init__(self, network: SpikingNetwork, chunk: int | None) -> None:
        super().__init__(network)
        self.chunk = chunk
        self.folded = FoldedSession(network, chunk)
        self.currents, self.outputs = shapes(network.network)
        self.runners: list[Runner | None] = []
        self.blocks: dict[int, int] = {}
        for position in range(len(network.stages)):
            self.runners.append(self._runner(position))

    def chunk_steps(self, batch: int) -> int:
        return self.chunk or max(1, min(CHUNK, LIST_BUDGET // (batch * self.folded.largest)))

    def close_batch(self) -> None:
        self.folded.close_batch()

    def advance(
        self, position: int, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        runner = self.runners[position]
        chosen = self.folded if runner is None else None
        if chosen:
            return chosen.advance(position, sources, state, samples, first, count)
        assert runner is not None
        return runner.advance(sources, state, samples, first, count)

    def _runner(self, position: int) -> Runner | None:
        stage = self.network.stages[position]
        sources, population = stage.stage.sources, stage.population
        shape, output = self.currents[position], self.outputs[position]
        if max(len(shape), len(output)) > 3:
            return None
        first = self.runners[sources[0]] if len(sources) == 1 and sources[0] >= 0 else None
        if (
            isinstance(population, LateralInhibitionPool)
            and isinstance(stage.stage.synapses, torch.nn.Identity)
            and first
        ):
            self.blocks[position] = self.blocks[sources[0]]
            return PoolRunner(population, first, self.blocks[position], shape, output)
        runners = [self.runners[source] if source >= 0 else None for source in sources]
        scales = [runner.scale if runner else None for runner in runners]
        incoming = [self.outputs[source] for source in sources]
        synapses = Synapses(stage, incoming, scales, shape)
        self.blocks[position] = synapses.tile
        constant = self._constant(position) if stage.stage.constant else None
        fusion = fuse(population, len(shape))
        if pools_currents(population):
            return CurrentPoolRunner(synapses, population, shape, output, constant)
        if fusion:
            return FusedRunner(synapses, fusion, shape, constant)
        if isinstance(population, WindowNeuron) and type(population).scan is WindowNeuron.scan:
            sender = Sender(population, threshold=population.threshold)
            return WindowRunner(synapses, population, self._neurons(synapses, sender, shape, output, UNREAD), constant)
        if population.window:
            log.debug("%s runs in the folded backend: it reads more of a run than a sum", named(population))
            return None
        return self._neurons(synapses, population, shape, output, constant)

    def _neurons(
        self,
        synapses: Synapses,
        population: Any,
        shape: tuple[int, ...],
        output: tuple[int, ...],
        constant: Constant | None,
    ) -> Runner:
        """Return a runner for a population that no kernel was made for: a written one, or PyTorch's."""
        neuron = write(population, shape, synapses.tile)
        if neuron:
            runner = WrittenRunner(synapses, neuron, shape, constant)
            if runner.agrees():
                return runner
            log.debug("%s runs in PyTorch: its kernel would do something else", named(population))
        return TorchRunner(synapses, population, shape, output, constant)

    def _constant(self, position: int) -> Constant:
        return Constant(partial(self.folded.constant_current, position), self.network.constant_once)


def shapes(network: Network) -> tuple[dict[int, tuple[int, ...]], dict[int, tuple[int, ...]]]:
    """Return one input's shapes of every stage's current, and of every stage's output and every constant of the front."""
    currents, outputs = {}, {-1 - k: tuple(c.shape[1:]) for k, c in enumerate(network.front(network.example))}
    for position, current, output in network.trace(network.example):
        currents[position], outputs[position] = tuple(current.shape[1:]), tuple(output.shape[1:])
    return currents, outputs
