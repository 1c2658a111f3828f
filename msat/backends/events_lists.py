"""Spikes of one stage and chunk as event lists, in buffers that are allocated once and reused by every chunk."""

import ctypes
import math

import numpy as np
import torch
from torch import Tensor

from msat.backends.base import Traffic
from msat.backends.events_plan import spread
from msat.backends.kernels import library
from msat.backends.kernels.structs import NEURONS, SCAN, SPARE, Array, Lists, Stage, address, room


class Buffer:
    """Memory for one stage's lists.

    Args:
        shape: one input's neurons.
        block: channels in a list.
        graded: whether each event has a value of its own.
        counted: whether each event has a spike count of its own.
    """

    def __init__(self, shape: tuple[int, ...], block: int, graded: bool, counted: bool = False) -> None:
        self.shape, self.block = shape, block
        self.channels, self.height, self.width = spread(shape)
        self.blocks = -(-self.channels // block)
        self.kinds = {"code": np.uint32} | ({"value": np.float32} if graded else {})
        self.kinds |= {"count": np.float32} if counted else {}
        self.arrays: dict[str, Array] = {}
        self.streams = 0

    def lists(self, batch: int, steps: int, image: int = 0) -> Lists:
        """Return lists for a chunk, from one of its inputs on; what the last chunk held is overwritten."""
        streams, pixels = batch * self.blocks * steps, self.height * self.width
        if streams > self.streams:
            self.streams = streams
            each = pixels * self.block + SPARE
            self.arrays = {name: room((streams, each), kind) for name, kind in self.kinds.items()}
            self.arrays["start"] = room((streams, pixels // 16 * 16 + 16), np.uint32)
        first = image * self.blocks * steps
        found = [self.arrays.get(name) for name in ("start", "code", "value", "count")]
        pointers = [None if array is None else address(array[first:]) for array in found]
        return Lists(*pointers, self.channels, self.height, self.width, self.block, self.blocks, steps)


class EventTraffic(Traffic):
    """Event lists of B inputs and T steps; good until the same stage runs its next chunk.

    Args:
        buffer: where the lists lie.
        lists: their addresses.
        batch: B.
        scale: value of an event by channel, float32 [C], for binary spikes; None for graded ones.
    """

    def __init__(self, buffer: Buffer, lists: Lists, batch: int, scale: Tensor | None) -> None:
        self.buffer, self.lists, self.batch, self.scale = buffer, lists, batch, scale
        self.steps = int(lists.steps)
        self._events: int | None = None

    def events(self) -> int:
        """Return how many events there are."""
        if self._events is None:
            used = self.batch * self.buffer.blocks * self.steps
            self._events = int(
                self.buffer.arrays["start"][:used, self.buffer.height * self.buffer.width].sum(dtype=np.int64)
            )
        return self._events

    def density(self) -> float:
        """Return the share of neurons and steps with an event."""
        return self.events() / (self.batch * self.steps * math.prod(self.buffer.shape))

    def frames(self, begin: int, end: int, lists: Lists | None = None, scale: Tensor | None = None) -> Tensor:
        """Return the outputs of some steps: [end - begin, B, height, width, channels]."""
        b = self.buffer
        dense = torch.empty(end - begin, self.batch, b.height, b.width, b.channels)
        values = self.scale if scale is None else scale
        library().run_densify(
            ctypes.byref(lists or self.lists), begin, end, self.batch,
            ctypes.c_void_p(None if values is None else values.data_ptr()), ctypes.c_void_p(dense.data_ptr()),
            torch.get_num_threads(),
        )  # fmt: skip
        return dense

    def output(self) -> Tensor:
        return channels_first(self.frames(0, self.steps), self.buffer.shape)

    def spikes(self) -> Tensor:
        counts = Lists.from_buffer_copy(self.lists)
        counts.value = self.lists.count
        frames = self.frames(0, self.steps, counts, torch.ones(self.buffer.channels))
        return channels_first(frames, self.buffer.shape)

    def weighted(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        weights = weight.double().cpu().reshape(self.buffer.channels, -1)
        by_channel = not torch.equal(weights, weights[:1].expand_as(weights))
        laid = (weights.T if by_channel else weights[0]).contiguous()
        spikes, events = torch.zeros(2, self.batch, self.steps, dtype=torch.float64)
        library().run_weigh(
            ctypes.byref(self.lists), self.batch, ctypes.c_void_p(laid.data_ptr()), int(by_channel),
            ctypes.c_void_p(spikes.data_ptr()), ctypes.c_void_p(events.data_ptr()), torch.get_num_threads(),
        )  # fmt: skip
        return spikes.sum(0), events.sum(0)

    def totals(self, begin: int, end: int, weight: Tensor) -> tuple[Tensor, Tensor]:
        b, scale = self.buffer, self.scale
        outputs, spikes = torch.zeros(2, 1, self.batch, b.height, b.width, b.channels)
        library().run_tally(
            ctypes.byref(self.lists), begin, end, self.batch, ctypes.c_void_p(None if scale is None else scale.data_ptr()),
            ctypes.c_void_p(weight.data_ptr()), ctypes.c_void_p(outputs.data_ptr()), ctypes.c_void_p(spikes.data_ptr()),
            torch.get_num_threads(),
        )  # fmt: skip
        return channels_first(outputs, b.shape)[0], channels_first(spikes, b.shape)[0]

    def record(self, begin: int, output: Tensor, spikes: Tensor | None, image: int = 0) -> None:
        """Fill in steps begin .. of the inputs from number `image` on.

        Args:
            begin: the first step.
            output: outputs of a population [T, B, ...].
            spikes: its spike counts, if they are not 0 or 1.
            image: the first input; those before it are left as they are.
        """
        b, laid = self.buffer, channels_last(output)
        counts = None if spikes is None else channels_last(spikes.to(laid))
        job = Stage(
            batch=laid.shape[1], begin=begin, end=begin + len(laid), channels=b.channels, height=b.height, width=b.width,
            tile=b.block, tiles=b.blocks, current=address(laid), current_time=laid[0].numel(), spikes=address(counts),
            out=b.lists(self.batch, self.steps, image),
        )  # fmt: skip
        library().run_stage(ctypes.byref(job), NEURONS["pass"], SCAN, 0, torch.get_num_threads())


def channels_last(x: Tensor) -> Tensor:
    """Return [T, B, C, ...] as [T, B, ..., C], contiguous: the layout in which the kernels read currents and outputs."""
    order = (0, 1, *range(3, x.dim()), 2)
    return x.permute(order).contiguous()


def channels_first(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a view of [T, B, pixels..., C] as [T, B, C, ...] for one input's neurons of this shape."""
    laid = x.view(*x.shape[:2], *shape[1:], shape[0])
    return laid.permute(0, 1, laid.dim() - 1, *range(2, laid.dim() - 1))
