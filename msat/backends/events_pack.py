"""Weights, biases and per-neuron values in the order in which the kernels read them: tiles of channels, channels last."""

import numpy as np
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


def pack(rows: Tensor, layer: Convolution, scale: Tensor | None, scatter: bool) -> None:
    """Fill zeroed weight rows [tiles, taps * span, tile] of one layer, a row per input of a window.

    The rows' order is (ky, kx, input channel) for gather and (input channel, ky, run) for scatter, where a run holds the
    kx of one residue of the column in the order of the output columns. A tile that lies in several groups keeps zeros
    where an input does not reach an output.

    Args:
        rows: what is filled.
        layer: the convolution.
        scale: factor of each input channel: the value of its events where they carry none, the share of an average.
        scatter: for which kernel.
    """
    groups, (out, narrow, kh, kw) = layer.groups, layer.weight.shape
    (low, span), tile, stride = reach(layer, rows.shape[-1]), rows.shape[-1], layer.stride[1]
    weight = layer.weight.detach()
    if scatter:
        weight = weight[..., [kx for phase in range(stride) for kx in reversed(range(phase, kw, stride))]]
    for t, base in enumerate(low.tolist()):
        for g in range(t * tile * groups // out, -(-min((t + 1) * tile, out) * groups // out)):
            begin, end = max(t * tile, g * out // groups), min((t + 1) * tile, (g + 1) * out // groups)
            part, at = weight[begin:end], g * narrow - base
            lanes = slice(begin - t * tile, end - t * tile)
            if scatter:
                target = rows[t].view(span, kh, kw, tile)[at : at + narrow, :, :, lanes]
                target.copy_(part.permute(1, 2, 3, 0))
                target *= 1 if scale is None else scale[g * narrow : (g + 1) * narrow].view(-1, 1, 1, 1)
            else:
                target = rows[t].view(kh, kw, span, tile)[:, :, at : at + narrow, lanes]
                target.copy_(part.permute(2, 3, 1, 0))
                target *= 1 if scale is None else scale[g * narrow : (g + 1) * narrow].view(-1, 1)


def runs(layer: Convolution) -> Ints:
    """Return where the taps of each residue of (column + padding) modulo the stride begin: [stride + 1]."""
    width, stride = layer.kernel[1], layer.stride[1]
    return np.cumsum([0, *(len(range(phase, width, stride)) for phase in range(stride))]).astype(np.int32)


def with_batch(values: Tensor, dims: int) -> Tensor:
    """Return what broadcasts over a batch of neurons ([C, 1, 1], a single value, ...) with all of its 1 + `dims` dimensions."""
    return values.reshape(*[1] * (1 + dims - values.dim()), *values.shape)


def per_neuron(values: Tensor, shape: tuple[int, int, int], tile: int, fill: float = 0.0) -> tuple[Floats, int]:
    """Lay out values that broadcast over one input's neurons: [tiles, pixels or 1, tile], and the step between pixels.

    Args:
        values: of all the population's dimensions (see `with_batch`), each of its size or 1.
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
