"""Time folded into the batch: one dense pass per stage and chunk, constant currents once per input; CPU and GPU.

On a GPU the frames have their channels last, a step of a population runs as one kernel (fused.py), and convolutions are
computed as convolutions.py says.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from msat.backends import fused
from msat.backends.base import Backend, DenseTraffic, Session, Traffic
from msat.backends.convolutions import arithmetic
from msat.backends.step import only_first
from msat.network import SpikingNetwork

FRAME_BUDGET = 4_000_000
"""Most values in the largest tensor of a chunk; beyond it a CPU's last-level cache no longer helps."""
GPU_FRAMES = 1024
"""Most frames of a chunk on a GPU: enough to hide the launches of their kernels."""
GPU_VALUES = 128_000_000
"""Most values in the largest tensor of a chunk of several steps on a GPU: 512 MB."""


class Folded(Backend):
    """Dense simulation with T x B frames in each call.

    Args:
        chunk: steps in a chunk; None chooses by the network's size, on a GPU by the batch.
        joined: whether a population's step runs as one compiled kernel; None: on a GPU.
        three: whether convolutions are computed by three TF32 products.
    """

    def __init__(self, chunk: int | None = None, joined: bool | None = None, three: bool = False) -> None:
        self.chunk, self.joined, self.three = chunk, joined, three
        self.name = "folded-tf32x3" if three else "folded"

    def open(self, network: SpikingNetwork) -> Session:
        return FoldedSession(network, self.chunk, self.joined, self.three)


class FoldedSession(Session):
    """Keeps the currents of constant stages for the batch at hand."""

    def __init__(
        self, network: SpikingNetwork, chunk: int | None, joined: bool | None = None, three: bool = False
    ) -> None:
        super().__init__(network)
        self.chunk = chunk
        self.cuda = network.network.example.device.type == "cuda"
        self.joined = self.cuda if joined is None else joined
        self.arithmetic = partial(arithmetic, three) if self.cuda or three else nullcontext
        self.largest = max(math.prod(shape) for shape in network.network.shapes())
        self.constants: dict[int, Tensor] = {}

    def chunk_steps(self, batch: int) -> int:
        values = batch * self.largest
        most = min(GPU_FRAMES // batch, GPU_VALUES // values) if self.cuda else FRAME_BUDGET // values
        return self.chunk or max(1, min(32, most))

    def close_batch(self) -> None:
        self.constants.clear()

    def advance(
        self, position: int, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        stage = self.network.stages[position]
        if stage.stage.constant:
            currents = self._repeated(self.constant_current(position, sources), first, count)
        else:
            currents = self._folded(position, [source.output() for source in sources])
        start, scan = (
            (fused.start, fused.scan) if self.joined else (type(stage.population).start, type(stage.population).scan)
        )
        state = start(stage.population, currents[0], samples) if state is None else state
        emission, state = scan(stage.population, currents, state)
        return DenseTraffic(emission), state

    def constant_current(self, position: int, sources: Sequence[Traffic]) -> Tensor:
        """Return the current [B, ...] of a stage that no spike reaches, computed once for the batch."""
        stage = self.network.stages[position]
        if position not in self.constants:
            with self.arithmetic():
                current = stage.stage.synapses(*(source.output()[0] for source in sources))
            current = current if stage.offset is None else current + stage.offset
            self.constants[position] = self._channels_last(current)
        return self.constants[position]

    def _repeated(self, current: Tensor, first: int, count: int) -> Tensor:
        currents = current.unsqueeze(0).expand(count, *current.shape)
        return only_first(currents, first) if self.network.constant_once else currents

    def _folded(self, position: int, outputs: Sequence[Tensor]) -> Tensor:
        stage = self.network.stages[position]
        with self.arithmetic():
            current = stage.stage.synapses(*(self._channels_last(output.flatten(0, 1)) for output in outputs))
        if stage.offset is not None:
            current = current + stage.offset
        return current.unflatten(0, outputs[0].shape[:2])

    def _channels_last(self, frames: Tensor) -> Tensor:
        """Return frames [N, ...] in the layout of a GPU's convolutions; on a CPU, and without two dimensions, as they are."""
        last = self.cuda and frames.dim() == 4
        return frames.contiguous(memory_format=torch.channels_last) if last else frames
