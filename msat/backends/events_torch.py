"""A stage whose neurons PyTorch advances: currents from event synapses, outputs back into lists."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msat.backends.base import DenseTraffic, Traffic
from msat.backends.events_lists import Buffer, EventTraffic, channels_first
from msat.backends.events_stages import Constant, Runner
from msat.backends.events_synapses import Synapses
from msat.backends.kernels.structs import SCAN, Stage
from msat.backends.trees import changed
from msat.network import Readout
from msat.neurons import Emission
from msat.pooling import SpikingPool

SLICE_BUDGET = 1 << 16
"""Most neurons of a slice for each thread, beyond one input: half a dozen tensors of that many values fit a second-level cache."""


class Currents:
    """Currents of one stage in memory, for what takes them from there.

    Args:
        synapses: their linear expression.
        shape: one input's neurons.
        constant: current of a constant stage, else None.
    """

    def __init__(self, synapses: Synapses, shape: tuple[int, ...], constant: Constant | None) -> None:
        self.synapses, self.shape, self.constant = synapses, shape, constant
        self.job = Stage()
        synapses.prepare(self.job)

    def parts(
        self, sources: Sequence[Traffic], batch: int, first: int, count: int, size: int
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Yield currents of steps begin .. end of a chunk, at most `size` of them at once.

        They are [T, B, ...] with the channels last in memory; a constant is expanded over T.
        """
        if self.constant:
            for start, stop, current in self.constant.parts(sources, first, count):
                for begin in range(start, stop, size):
                    end = min(begin + size, stop)
                    yield begin, end, current.expand(end - begin, *current.shape)
            return
        kernel = self.synapses.listen(sources)
        for begin in range(0, count, size):
            end = min(begin + size, count)
            dense = kernel == SCAN
            currents = self.synapses.dense(sources, begin, end) if dense else self.gathered(kernel, batch, begin, end)
            yield begin, end, channels_first(currents, self.shape)

    def gathered(self, kernel: int, batch: int, begin: int, end: int) -> Tensor:
        """Return currents by the event kernels: [T, B, pixels, C]."""
        job = self.job
        sink = torch.empty(end - begin, batch, job.height * job.width, job.channels)
        job.batch, job.begin, job.end, job.sink = batch, begin, end, sink.data_ptr()
        self.synapses.run(job, "current", kernel)
        return sink


class TorchRunner(Runner):
    """Event synapses, then the population's own PyTorch code, then its outputs as lists; a readout stays dense.

    The population's steps run on few inputs at a time, so that what its operations pass to each other stays in the cache.
    """

    def __init__(self, synapses: Synapses, population: Any, shape: tuple[int, ...], output: tuple[int, ...], constant: Constant | None) -> None:  # fmt: skip
        self.synapses, self.population, self.shape, self.output = synapses, population, shape, output
        self.currents = Currents(synapses, shape, constant)
        self.silent = isinstance(synapses.stage.stage.rule, Readout)
        self.buffers: dict[bool, Buffer] = {}

    def advance(
        self, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        batch = len(samples)
        size = count if self.silent else self.synapses.steps_at_once(batch)
        traffic: EventTraffic | None = None
        for begin, _, currents in self.currents.parts(sources, batch, first, count, size):
            if self.silent:
                state = self.population.start(currents[0], samples) if state is None else state
                emission, state = self.population.scan(currents, state)
                return DenseTraffic(emission), state
            laid = currents.contiguous() if isinstance(self.population, SpikingPool) else currents
            emission, state = self.scan(laid, state, samples)
            traffic = self.compact(emission, traffic, batch, begin, count)
        assert traffic is not None
        return traffic, state

    def scan(self, currents: Tensor, state: Any, samples: Tensor) -> tuple[Emission, "SlicedState"]:
        """Return outputs and spike counts of a chunk [T, B, ...], each with its channels last in memory."""
        batch = len(samples)
        if not isinstance(state, SlicedState):
            state = self.sliced(currents[0], state, samples)
        output, events, parts = self.frames(len(currents), batch), None, []
        for part, begin in zip(state.parts, range(0, batch, state.size), strict=True):
            own = slice(begin, min(begin + state.size, batch))
            for t, current in enumerate(currents[:, own]):
                emission, part = self.population.step(current, part)
                output[t, own] = emission.output
                if emission.events is not None:
                    events = self.frames(len(currents), batch) if events is None else events
                    events[t, own] = emission.events
            parts.append(part)
        return Emission(output, events), SlicedState(tuple(parts), state.size)

    def sliced(self, current: Tensor, state: Any, samples: Tensor) -> "SlicedState":
        """Return the start state by slices of inputs: at rest, or what a warm-up pass left."""
        batch = len(samples)
        size = max(1, SLICE_BUDGET * torch.get_num_threads() // math.prod(self.shape))
        slices = [slice(begin, min(begin + size, batch)) for begin in range(0, batch, size)]
        if state is None:
            return SlicedState(tuple(self.population.start(current[own], samples[own]) for own in slices), size)
        return SlicedState(tuple(changed(state, partial(_of_inputs, own, batch)) for own in slices), size)

    def frames(self, steps: int, batch: int) -> Tensor:
        """Return room for the outputs of some steps [T, B, ...], the channels last in memory."""
        return channels_first(torch.empty(steps, batch, *self.output[1:], self.output[0]), self.output)

    def compact(
        self, emission: Emission, traffic: EventTraffic | None, batch: int, begin: int, count: int, image: int = 0
    ) -> EventTraffic:
        """Add the outputs of steps begin .. end, of the inputs from number `image` on, to the chunk's lists."""
        counted = emission.events is not None
        if traffic is None:
            buffer = self.buffers.setdefault(counted, Buffer(self.output, self.synapses.tile, True, counted))
            traffic = EventTraffic(buffer, buffer.lists(batch, count), batch, None)
        traffic.record(begin, emission.output, emission.events, image)
        return traffic


def _of_inputs(own: slice, batch: int, value: Tensor) -> Tensor:
    """Return a state of some inputs of a batch; what is the same for all has no axis for them."""
    return value[own] if value.dim() and len(value) == batch else value


class SlicedState(NamedTuple):
    """A population's states, one for each slice of `size` inputs."""

    parts: tuple[Any, ...]
    size: int
