"""Weights, biases and per-neuron values in the order in which the kernels read them: tiles of channels, channels last."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msat.backends.events_plan import Chain, Expression
from msat.backends.kernels.structs import aligned

Floats = NDArray[np.float32]


class Packed:
    """The convolutions of one stage as the gather or the scatter kernel reads them.

    Args:
        expression: chains of the stage.
        scales: value of a binary event by channel, for each source; None for graded sources.
        channels: output channels.
        tile: channels that one pass of the kernel computes.
        scatter: for the scatter kernel.
    """

    def __init__(
        self, expression: Expression, scales: Sequence[Tensor | None], channels: int, tile: int, scatter: bool
    ) -> None:
        self.tile, self.tiles = tile, -(-channels // tile)
        self.terms = [chain for chain in expression.chains if chain.convolution]
        self.shortcuts = [chain for chain in expression.chains if not chain.convolution]
        blocks = [rows_of(chain, scales[chain.source], channels, tile) for chain in self.terms]
        self.spans = [block.shape[2] for block, _ in blocks]
        self.lows = [low for _, low in blocks]
        sizes = [block.shape[1] * block.shape[2] for block, _ in blocks]
        self.first = np.cumsum([0, *sizes])
        self.runs = [runs(chain) for chain in self.terms]
        if scatter:
            parts = [by_channel(block, chain) for (block, _), chain in zip(blocks, self.terms, strict=True)]
        else:
            parts = [block.reshape(self.tiles, -1, tile) for block, _ in blocks]
            parts.append(np.zeros((self.tiles, 1, tile), np.float32))
        self.weight = aligned(np.concatenate(parts, 1))
        self.rows = int(self.first[-1])


def rows_of(chain: Chain, scale: Tensor | None, channels: int, tile: int) -> tuple[Floats, NDArray[np.int32]]:
    """Return weight rows [tiles, taps, span, tile] and the first input channel of each tile [tiles].

    A tile that lies in several groups holds zeros where an input does not reach an output.
    """
    convolution = chain.convolution
    assert convolution is not None
    groups, (out, narrow, kh, kw) = convolution.groups, convolution.weight.shape
    weight = convolution.weight.detach().double() / (chain.pool[0] * chain.pool[1])
    if scale is not None:
        weight = weight * scale.double().view(groups, 1, narrow).expand(-1, out // groups, -1).reshape(
            out, narrow, 1, 1
        )
    weight = weight.float()
    tiles = -(-channels // tile)
    first = [t * tile // (out // groups) for t in range(tiles)]
    last = [(min(channels, (t + 1) * tile) - 1) // (out // groups) for t in range(tiles)]
    span = max((b - a + 1) * narrow for a, b in zip(first, last, strict=True))
    low = np.array([min(g * narrow, groups * narrow - span) for g in first], np.int32)
    rows = torch.zeros(tiles, kh * kw, span, tile)
    for c in range(groups):
        for t in range(tiles):
            begin, end = max(t * tile, c * out // groups), min((t + 1) * tile, (c + 1) * out // groups)
            if begin < end:
                part = weight[begin:end].permute(2, 3, 1, 0).reshape(kh * kw, narrow, end - begin)
                at = c * narrow - int(low[t])
                rows[t, :, at : at + narrow, begin - t * tile : end - t * tile] = part
    return rows.numpy(), low


def runs(chain: Chain) -> NDArray[np.int32]:
    """Return where the taps of each residue of (column + padding) modulo the stride begin: [stride + 1]."""
    assert chain.convolution is not None
    width, stride = chain.convolution.kernel[1], chain.convolution.stride[1]
    return np.cumsum([0, *(len(range(phase, width, stride)) for phase in range(stride))]).astype(np.int32)


def by_channel(block: Floats, chain: Chain) -> Floats:
    """Reorder rows [tiles, taps, span, tile] by (input channel, ky, residue, output column): [tiles, span * taps, tile]."""
    assert chain.convolution is not None
    (height, width), stride = chain.convolution.kernel, chain.convolution.stride[1]
    order = [kx for phase in range(stride) for kx in reversed(range(phase, width, stride))]
    tiles, _, span, tile = block.shape
    taps = block.reshape(tiles, height, width, span, tile)[:, :, order].transpose(0, 3, 1, 2, 4)
    return np.ascontiguousarray(taps).reshape(tiles, -1, tile)


def per_neuron(values: Tensor, shape: tuple[int, int, int], tile: int, fill: float = 0.0) -> tuple[Floats, int]:
    """Lay out values that broadcast over [1, channels, ...]: [tiles, pixels or 1, tile], and the step from pixel to pixel.

    Args:
        values: any shape that broadcasts to one input's neurons, with the batch dimension.
        shape: channels, height, width of the population.
        tile: channels of a tile.
        fill: value of channels that only fill up the last tile.
    """
    channels, height, width = shape
    single = values.numel() == 1
    spatial = not single and (values.dim() == 4 or values.dim() == 3) and any(n > 1 for n in values.shape[2:])
    pixels = height * width if spatial else 1
    full = values.detach().float().reshape(1, 1) if single else values.detach().float()
    if not single:
        whole = (channels, *([height, width] if values.dim() == 4 else [width] if values.dim() == 3 else []))
        full = (full.expand(1, *whole) if spatial else full.reshape(-1, 1)).reshape(-1, pixels)
    tiles = -(-channels // tile)
    packed = np.full((tiles * tile, pixels), fill, np.float32)
    packed[:channels] = full.expand(channels, pixels).cpu().numpy()
    laid = packed.reshape(tiles, tile, pixels).transpose(0, 2, 1)
    return aligned(np.ascontiguousarray(laid)), tile if spatial else 0


def by_tile(values: Tensor, shape: tuple[int, int, int], tile: int) -> Floats:
    """Lay out a batch of neurons' values [B, channels, ...] as [B, tiles, pixels, tile]."""
    channels, height, width = shape
    tiles = -(-channels // tile)
    packed = np.zeros((len(values), tiles * tile, height * width), np.float32)
    packed[:, :channels] = values.detach().reshape(len(values), channels, -1).numpy()
    return np.ascontiguousarray(packed.reshape(len(values), tiles, tile, -1).transpose(0, 1, 3, 2))
