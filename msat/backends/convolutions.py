"""A GPU's convolutions: fp32 as matrix products where maps are small, or three TF32 products on the tensor cores.

cuDNN's fp32 kernels reach 35 to 39 of an H200's 67 TFLOP/s on maps of 32×32 to 8×8, but 12 on 4×4 and 3 on 2×2
(docs/gpu.md); cuBLAS does not mind. Three products: x w = (x1 + x2) (w1 + w2), where x1, w1 are rounded to TF32's 11 bits,
x2, w2 are what is left, and x2 w2 is left out (Ootomo & Yokota 2022, "Recovering single precision accuracy from Tensor
Cores while surpassing the FP32 theoretical peak performance").
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

SMALL = 16
"""Most pixels of a result that a matrix product computes."""
DROPPED = 13
"""Bits of fp32's fraction that TF32 has not."""


class Convolution(NamedTuple):
    """The arguments of `torch.conv1d` and `torch.conv2d`, by PyTorch's names."""

    input: Tensor
    weight: Tensor
    bias: Tensor | None = None
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1


Compute = Callable[..., Tensor]
"""PyTorch's function; takes the fields of a `Convolution`."""


@contextmanager
def tensor_float(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in convolutions; forbid it in matrix products."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32, cudnn.allow_tf32 = False, allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@contextmanager
def arithmetic(three: bool) -> Iterator[None]:
    """Compute what is inside in fp32, convolutions as `three_products` if `three`, else as `small_as_matrix` does."""
    with tensor_float(False), Instead(three_products if three else small_as_matrix):
        yield


class Instead(TorchFunctionMode):
    """Has fp32 convolutions without groups computed by another function, and leaves all else as it is."""

    def __init__(self, other: Callable[[Compute, Convolution], Tensor]) -> None:
        super().__init__()
        self.other = other

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (torch.conv1d, torch.conv2d):
            asked = Convolution(*args, **(kwargs or {}))
            if asked.groups == 1 and asked.input.dtype == torch.float32:
                return self.other(func, asked)
        return func(*args, **(kwargs or {}))


def small_as_matrix(func: Compute, asked: Convolution) -> Tensor:
    """Compute a convolution of maps [n, channels, h, w] whose result is small as one matrix product; another as it is."""
    x, weight, bias = asked.input, asked.weight, asked.bias
    if x.dim() != 4 or isinstance(asked.padding, str) or _pair(asked.dilation) != (1, 1):
        return func(*asked)
    (down, right), (high, wide), (tall, broad) = _pair(asked.stride), _pair(asked.padding), weight.shape[2:]
    height, width = (x.shape[2] + 2 * high - tall) // down + 1, (x.shape[3] + 2 * wide - broad) // right + 1
    if height * width > SMALL:
        return func(*asked)
    windows = F.pad(x, (wide, wide, high, high)).unfold(2, tall, down).unfold(3, broad, right)
    rows = windows.permute(0, 2, 3, 4, 5, 1).reshape(len(x) * height * width, -1)
    result = F.linear(rows, weight.permute(0, 2, 3, 1).flatten(1), bias)
    return result.view(len(x), height, width, -1).permute(0, 3, 1, 2)


def three_products(func: Compute, asked: Convolution) -> Tensor:
    """Compute a convolution by three TF32 products."""
    with tensor_float(True):
        return func(split(asked.input, (0, 1, 0)), split(asked.weight, (0, 0, 1)), *asked[2:])


def split(x: Tensor, order: Sequence[int]) -> Tensor:
    """Return the parts of x [n, channels, ...], 0: its TF32 part, 1: the rest, one behind the other along the channels."""
    first = rounded(x)
    parts = first, x - first
    return torch.cat([parts[k] for k in order], 1)


def rounded(x: Tensor) -> Tensor:
    """Return fp32 numbers rounded to TF32, halves away from zero."""
    bits = x.view(torch.int32) + (1 << DROPPED - 1)
    return (bits & -(1 << DROPPED)).view(torch.float32)


def _pair(value: Any) -> tuple[int, int]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values[0], values[-1]
