"""Time folded into the batch: one dense pass per stage and chunk, constant currents once per input; CPU and GPU.

On a GPU the frames have their channels last, a population's steps run as one kernel (fused.py), and chunks after the
first are replayed as CUDA graphs (graphs.py). Convolutions are fp32, without TF32, unless weights are split (split.py).
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from msat.backends.base import Backend, DenseTraffic, Session, Traffic
from msat.backends.fused import UNROLL, later, prepared, scan, unrollable
from msat.backends.graphs import Recorder
from msat.backends.split import SpikeTraffic, Split, tensor_float
from msat.backends.step import only_first
from msat.network import SpikingNetwork
from msat.neurons import Emission

FRAME_BUDGET = 4_000_000
"""Most values in the largest tensor of a chunk; beyond it a CPU's last-level cache no longer helps."""


class Folded(Backend):
    """Dense simulation with T x B frames in each call.

    Args:
        chunk: steps in a chunk; None chooses by the network's size, and on a GPU by what one kernel unrolls.
        fused: whether a population's steps run as one compiled kernel; None: on a GPU.
        terms: bf16 terms into which weights behind binary spikes are split for the tensor cores; 0: fp32 throughout.
    """

    def __init__(self, chunk: int | None = None, fused: bool | None = None, terms: int = 0) -> None:
        self.chunk, self.fused, self.terms = chunk, fused, terms
        self.name = f"folded-bf16x{terms}" if terms else "folded"

    def open(self, network: SpikingNetwork) -> Session:
        return FoldedSession(network, self.chunk, self.fused, self.terms)


class FoldedSession(Session):
    """Keeps the currents of constant stages for the batch at hand."""

    def __init__(self, network: SpikingNetwork, chunk: int | None, fused: bool | None = None, terms: int = 0) -> None:
        super().__init__(network)
        self.chunk = chunk
        self.cuda = network.network.example.device.type == "cuda"
        self.fused = self.cuda if fused is None else fused
        # Without `fused` a state may hold numbers of steps, which a recording would repeat.
        self.recorder = Recorder() if self.cuda and self.fused else None
        self.split = Split(network, terms) if terms else None
        self.largest = max(math.prod(shape) for shape in network.network.shapes())
        self.constants: dict[int, Tensor] = {}

    def chunk_steps(self, batch: int) -> int:
        longest = UNROLL if self.fused else max(1, min(32, FRAME_BUDGET // (batch * self.largest)))
        return self.chunk or longest

    def close_batch(self) -> None:
        self.constants.clear()

    def advance(
        self, position: int, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        work = partial(self._run, position, samples, first, count)
        with tensor_float(False) if self.cuda else nullcontext():
            inputs = self._inputs(position, sources)
            # The first chunk starts the states, and is the only one in many runs.
            if self.recorder and first and unrollable(self.network.stages[position].population):
                emission, state = self.recorder.run((position, count), work, inputs, state)
            else:
                emission, state = work(inputs, state)
        if self.split and position in self.split.scales:
            return SpikeTraffic(emission, self.split.scales[position]), state
        return DenseTraffic(emission), state

    def _inputs(self, position: int, sources: Sequence[Traffic]) -> tuple[Tensor, ...]:
        """Return the current of a constant stage, [B, ...]; else what the sources sent, [T, B, ...] each."""
        if self.network.stages[position].stage.constant:
            return (self.constant_current(position, sources),)
        if self.split and (position in self.split.synapses or self.split.pools(position)):
            return tuple(source.spikes() for source in sources)
        return tuple(source.output() for source in sources)

    def _run(
        self, position: int, samples: Tensor, first: int, count: int, inputs: tuple[Tensor, ...], state: Any
    ) -> tuple[Emission, Any]:
        stage = self.network.stages[position]
        population = self.split.populations.get(position, stage.population) if self.split else stage.population
        if stage.stage.constant:
            currents = self._repeated(inputs[0], first, count)
        elif self.split and position in self.split.synapses:
            currents = self.split.synapses[position](inputs)
        else:
            currents = self._folded(position, inputs)
        state = population.start(currents[0], samples) if state is None else state
        if not (self.fused and unrollable(population)):
            return population.scan(currents, state)
        if first == 0:
            state = prepared(population, state, currents.device)
        return scan(later(population) if first else population, currents, state, self.chunk or UNROLL)

    def constant_current(self, position: int, sources: Sequence[Traffic]) -> Tensor:
        """Return the current [B, ...] of a stage that no spike reaches, computed once for the batch."""
        stage = self.network.stages[position]
        if position not in self.constants:
            current = stage.stage.synapses(*(source.output()[0] for source in sources))
            current = current if stage.offset is None else current + stage.offset
            self.constants[position] = self._channels_last(current)
        return self.constants[position]

    def _repeated(self, current: Tensor, first: int, count: int) -> Tensor:
        currents = current.unsqueeze(0).expand(count, *current.shape)
        return only_first(currents, first) if self.network.constant_once else currents

    def _folded(self, position: int, outputs: Sequence[Tensor]) -> Tensor:
        stage = self.network.stages[position]
        current = stage.stage.synapses(*(self._channels_last(output.flatten(0, 1)) for output in outputs))
        if stage.offset is not None:
            current = current + stage.offset
        return current.unflatten(0, outputs[0].shape[:2])

    def _channels_last(self, frames: Tensor) -> Tensor:
        """Return frames [N, ...] in the layout of a GPU's convolutions; on a CPU, and without two dimensions, as they are."""
        last = self.cuda and frames.dim() == 4
        return frames.contiguous(memory_format=torch.channels_last) if last else frames
