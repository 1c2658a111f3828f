"""Weights, biases and per-neuron values in the order in which the kernels read them: tiles of channels, channels last."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msat.backends.events_plan import Convolution
from msat.backends.kernels.structs import aligned

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


def reach(layer: Convolution, tile: int) -> tuple[Ints, int]:
    """Return the first input channel that each tile of output channels reads [tiles], and how many it reads."""
    out, narrow = layer.weight.shape[:2]
    each = out // layer.groups
    first = [start // each for start in range(0, out, tile)]
    last = [(min(out, start + tile) - 1) // each for start in range(0, out, tile)]
    span = max((b - a + 1) * narrow for a, b in zip(first, last, strict=True))
    return np.array([min(g * narrow, layer.groups * narrow - span) for g in first], np.int32), span


def weight_rows(layer: Convolution, scale: Tensor | None, tile: int) -> Floats:
    """Return one weight row per input of a window: [tiles, taps, span, tile].

    A tile that lies in several groups holds zeros where an input does not reach an output.

    Args:
        layer: the convolution.
        scale: factor of each input channel: the value of its events where they carry none, the share of an average.
        tile: output channels of a row.
    """
    groups, (out, narrow, kh, kw) = layer.groups, layer.weight.shape
    weight = layer.weight.detach().double()
    if scale is not None:
        shares = scale.double().view(groups, 1, narrow).expand(-1, out // groups, -1)
        weight = weight * shares.reshape(out, narrow, 1, 1)
    weight = weight.float()
    low, span = reach(layer, tile)
    rows = torch.zeros(len(low), kh * kw, span, tile)
    for g in range(groups):
        for t, base in enumerate(low.tolist()):
            begin, end = max(t * tile, g * out // groups), min((t + 1) * tile, (g + 1) * out // groups)
            if begin < end:
                part = weight[begin:end].permute(2, 3, 1, 0).reshape(kh * kw, narrow, end - begin)
                at = g * narrow - base
                rows[t, :, at : at + narrow, begin - t * tile : end - t * tile] = part
    return rows.numpy()


def for_gather(rows: Floats) -> Floats:
    """Order weight rows by (tap, input channel): [tiles, taps * span, tile]."""
    return rows.reshape(len(rows), -1, rows.shape[-1])


def for_scatter(rows: Floats, layer: Convolution) -> Floats:
    """Order weight rows by (input channel, ky, residue of the column, output column): [tiles, span * taps, tile]."""
    (height, width), stride = layer.kernel, layer.stride[1]
    order = [kx for phase in range(stride) for kx in reversed(range(phase, width, stride))]
    tiles, _, span, tile = rows.shape
    taps = rows.reshape(tiles, height, width, span, tile)[:, :, order].transpose(0, 3, 1, 2, 4)
    return np.ascontiguousarray(taps).reshape(tiles, -1, tile)


def runs(layer: Convolution) -> Ints:
    """Return where the taps of each residue of (column + padding) modulo the stride begin: [stride + 1]."""
    width, stride = layer.kernel[1], layer.stride[1]
    return np.cumsum([0, *(len(range(phase, width, stride)) for phase in range(stride))]).astype(np.int32)


def per_neuron(values: Tensor, shape: tuple[int, int, int], tile: int, fill: float = 0.0) -> tuple[Floats, int]:
    """Lay out values that broadcast over one input's neurons: [tiles, pixels or 1, tile], and the step between pixels.

    Args:
        values: a single one, or [1, channels] followed by ones or by the spatial dimensions.
        shape: channels, height, width of the population.
        tile: channels of a tile.
        fill: value of channels that only fill up the last tile.
    """
    channels, height, width = shape
    flat = values.detach().float().cpu()
    spatial = any(n > 1 for n in flat.shape[2:])
    pixels = height * width if spatial else 1
    if spatial:
        sizes = (height, width) if flat.dim() == 4 else (width,)
        flat = flat.expand(1, channels, *sizes)
    packed = np.full((-(-channels // tile) * tile, pixels), fill, np.float32)
    packed[:channels] = flat.reshape(-1, pixels).numpy()
    return aligned(packed.reshape(-1, tile, pixels).transpose(0, 2, 1)), tile if spatial else 0


def by_tile(values: Tensor, shape: tuple[int, int, int], tile: int) -> Floats:
    """Lay out a batch of neurons' values [B, channels, ...] as [B, tiles, pixels, tile]."""
    channels, height, width = shape
    packed = np.zeros((len(values), -(-channels // tile) * tile, height * width), np.float32)
    packed[:, :channels] = values.detach().reshape(len(values), channels, -1).numpy()
    return np.ascontiguousarray(packed.reshape(len(values), -1, tile, height * width).transpose(0, 1, 3, 2))
