"""Runners: one stage under the event backend; here its synapses, neurons and lists in one pass of a kernel."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from msat.backends.base import Traffic
from msat.backends.events_lists import Buffer, EventTraffic, channels_last
from msat.backends.events_neurons import Fusion
from msat.backends.events_pack import Floats, by_tile, per_neuron, with_batch
from msat.backends.events_plan import spread
from msat.backends.events_synapses import Synapses
from msat.backends.events_write import AHEAD, WrittenNeuron
from msat.backends.kernels.structs import SCAN, Stage, address, room


@dataclass(frozen=True)
class Constant:
    """Current of a stage that no spike reaches: the same at every step, or there at step 1 only (differential coding)."""

    current: Callable[[Sequence[Traffic]], Tensor]
    """Returns it for the batch at hand, [B, ...]."""
    once: bool

    def parts(self, sources: Sequence[Traffic], first: int, count: int) -> Iterator[tuple[int, int, Tensor]]:
        """Yield the current [B, ...] of steps begin .. end of a chunk."""
        current = self.current(sources)
        now = min(count, 1 if first == 0 else 0) if self.once else count
        if now:
            yield 0, now, current
        if now < count:
            yield now, count, torch.zeros_like(current)


class Runner(ABC):
    """Advances one stage; `scale` is the value of its events by channel, None where each has its own."""

    scale: Tensor | None = None

    @abstractmethod
    def advance(
        self, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        """Run `count` steps after the first `first`; see `Session.advance`."""


class FusedState(NamedTuple):
    """State inside the kernels' buffers, which the next chunk changes in place."""

    arrays: tuple[Floats, ...]
    t: int


class FusedRunner(Runner):
    """Synapses, neuron and compaction in one pass over a chunk.

    Args:
        synapses: what feeds the neurons.
        fusion: the neuron as the kernels take it.
        shape: one input's neurons.
        constant: current of a constant stage, else None.
    """

    def __init__(self, synapses: Synapses, fusion: Fusion, shape: tuple[int, ...], constant: Constant | None) -> None:
        self.synapses, self.fusion, self.constant = synapses, fusion, constant
        self.kernel = fusion.kernel
        self.extent, tile = spread(shape), synapses.tile
        self.theta, theta_step = per_neuron(with_batch(fusion.theta, len(shape)), self.extent, tile, fill=1.0)
        self.quiet, quiet_step = per_neuron(with_batch(fusion.quiet, len(shape)), self.extent, tile)
        zeros = torch.zeros(1, *shape)
        self.rest = [per_neuron(state + zeros, self.extent, tile)[0] for state in fusion.rest]
        if fusion.binary:
            self.scale = torch.from_numpy(self.theta.reshape(-1)[: shape[0]].copy())
        self.buffer = Buffer(shape, tile, graded=self.scale is None, counted=fusion.counted)
        self.arrays: list[Floats] = []
        self.job = Stage(theta=address(self.theta), theta_step=theta_step)
        synapses.prepare(self.job)
        if fusion.adaptive:
            self.job.adaptive = fusion.adaptive
        if fusion.levels:
            self.job.levels = fusion.levels
            self.job.levels.quiet, self.job.levels.quiet_step = address(self.quiet), quiet_step

    def start(self, state: Any, samples: Tensor) -> FusedState:
        """Return the start state in the kernels' layout: at rest, or what a warm-up pass left."""
        batch, tile = len(samples), self.synapses.tile
        if not self.arrays or len(self.arrays[0]) < batch:
            self.arrays = [room((batch, *rest.shape), np.float32) for rest in self.rest]
        arrays = tuple(array[:batch] for array in self.arrays)
        begin = self.rest if state is None else [by_tile(value, self.extent, tile) for value in self.fusion.read(state)]
        for array, value in zip(arrays, begin, strict=True):
            array[...] = value
        return FusedState(arrays, getattr(state, "t", 0))

    def advance(
        self, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        held = state if isinstance(state, FusedState) else self.start(state, samples)
        job, batch = self.job, len(samples)
        traffic = self.aim(held, samples, count)
        if self.constant:
            for job.begin, job.end, current in self.constant.parts(sources, first, count):
                self.scan(channels_last(current.unsqueeze(0)), False)
        elif (kernel := self.synapses.listen(sources)) != SCAN:
            self.synapses.run(job, self.kernel, kernel)
        else:
            size = self.synapses.steps_at_once(batch)
            for begin in range(0, count, size):
                job.begin, job.end = begin, min(begin + size, count)
                self.scan(self.synapses.dense(sources, job.begin, job.end), True)
        return traffic, held._replace(t=held.t + count)

    def aim(self, held: FusedState, samples: Tensor, count: int) -> EventTraffic:
        """Point the job at the states and at the lists of a chunk, and return what will be sent."""
        job, batch = self.job, len(samples)
        lists = self.buffer.lists(batch, count)
        job.batch, job.begin, job.end, job.first, job.out = batch, 0, count, held.t, lists
        for number, array in enumerate(held.arrays):
            job.state[number] = address(array)
        job.adaptive.samples = address(samples)
        return EventTraffic(self.buffer, lists, batch, self.scale)

    def scan(self, currents: Tensor, varying: bool) -> None:
        """Feed currents [T or 1, B, pixels, C] to the neurons, of each step or the same at every one."""
        self.job.current, self.job.current_time = currents.data_ptr(), currents[0].numel() if varying else 0
        self.synapses.run(self.job, self.kernel, SCAN)


NOISE, AGREEING = 2e-5, 0.99
"""Difference that is rounding, as a share of the greatest output; least share of neurons without a greater one."""


class WrittenRunner(FusedRunner):
    """The same with a kernel that is written from the neuron's PyTorch step."""

    def __init__(self, synapses: Synapses, neuron: WrittenNeuron, shape: tuple[int, ...], constant: Constant | None) -> None:  # fmt: skip
        super().__init__(synapses, neuron.fusion(), shape, constant)
        self.neuron = neuron

    def agrees(self) -> bool:
        """Return whether the kernel sends what the population's own steps send, on random currents of three inputs.

        Some spikes may differ, since exponentials are rounded otherwise.
        """
        population, samples = self.neuron.population, torch.tensor([3, 0, 8])
        size = float(population.threshold.abs().mean())
        make = torch.Generator().manual_seed(0)
        currents = size * torch.randn(AHEAD, len(samples), *self.neuron.shape, generator=make)
        expected, _ = population.scan(currents, population.start(currents[0], samples))
        held = self.start(None, samples)
        self.kernel = self.neuron.prepare(self.job, 0, AHEAD)
        traffic = self.aim(held, samples, AHEAD)
        self.scan(channels_last(currents), True)
        most = expected.output.abs().max()
        same = ((traffic.output() - expected.output).abs() <= NOISE * most) & (traffic.spikes() == expected.spikes())
        return float(same.all(0).float().mean()) >= AGREEING

    def start(self, state: Any, samples: Tensor) -> FusedState:
        begin = self.neuron.at_rest(samples) if state is None else state
        self.neuron.restart(begin)
        return super().start(begin, samples)._replace(t=0)

    def advance(
        self, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        held = state if isinstance(state, FusedState) else self.start(state, samples)
        self.kernel = self.neuron.prepare(self.job, held.t, count)
        return super().advance(sources, held, samples, first, count)
