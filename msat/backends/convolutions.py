"""A GPU's convolutions: fp32 as matrix products where maps are small, or three TF32 products on the tensor cores.

cuDNN's fp32 kernels reach 40 of an H200's 67 TFLOP/s on 32×32 maps, but 12 on 4×4 and 3 on 2×2 ones (docs/gpu.md);
cuBLAS does not mind. Three products: x w = (x1 + x2) (w1 + w2), where x1, w1 are rounded to TF32's 11 bits, x2, w2 are
what is left, and x2 w2 is left out (Ootomo & Yokota 2022, "Recovering single precision accuracy from Tensor Cores").
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

SMALL = 16
"""Most pixels of a result that a matrix product computes."""
DROPPED = 13
"""Bits of fp32's fraction that TF32 has not."""


@contextmanager
def arithmetic(tensor_float: bool) -> Iterator[None]:
    """Compute convolutions as this module does, in fp32 or by three TF32 products; matrix products in fp32 always."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32, cudnn.allow_tf32 = False, tensor_float
    try:
        with Convolutions(three_products if tensor_float else small_as_matrix):
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


class Convolutions(TorchFunctionMode):
    """Has convolutions without groups computed by `instead`, and leaves all else as it is."""

    def __init__(self, instead: Callable[..., Tensor]) -> None:
        super().__init__()
        self.instead = instead

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        known = func in (torch.conv1d, torch.conv2d) and not kwargs and args[1].shape[1] == args[0].shape[1]
        return self.instead(func, *args) if known else func(*args, **(kwargs or {}))


def small_as_matrix(func: Callable[..., Tensor], x: Tensor, weight: Tensor, *rest: Any) -> Tensor:
    """Compute a convolution of x [n, channels, h, w] whose result is small as one matrix product; another as it is."""
    bias, stride, padding, dilation, _ = (*rest, None, 1, 0, 1, 1)[: len(rest)] + (None, 1, 0, 1, 1)[len(rest) :]
    if x.dim() != 4 or isinstance(padding, str) or dilation not in (1, (1, 1)):
        return func(x, weight, *rest)
    high, wide = (padding, padding) if isinstance(padding, int) else padding
    down, right = (stride, stride) if isinstance(stride, int) else stride
    padded = F.pad(x, (wide, wide, high, high))
    windows = padded.unfold(2, weight.shape[2], down).unfold(3, weight.shape[3], right)
    n, _, height, width = windows.shape[:4]
    if height * width > SMALL:
        return func(x, weight, *rest)
    rows = windows.permute(0, 2, 3, 4, 5, 1).reshape(n * height * width, -1)
    result = F.linear(rows, weight.permute(0, 2, 3, 1).flatten(1), bias)
    return result.view(n, height, width, -1).permute(0, 3, 1, 2)


def three_products(func: Callable[..., Tensor], x: Tensor, weight: Tensor, *rest: Any) -> Tensor:
    """Compute a convolution by three TF32 products."""
    return func(split(x, (0, 1, 0)), split(weight, (0, 0, 1)), *rest)


def split(x: Tensor, order: Sequence[int]) -> Tensor:
    """Return the parts of x [n, channels, ...], 0: its TF32 part, 1: the rest, one behind the other along the channels."""
    first = rounded(x)
    parts = first, x - first
    return torch.cat([parts[k] for k in order], 1)


def rounded(x: Tensor) -> Tensor:
    """Return fp32 numbers rounded to TF32, halves away from zero."""
    bits = x.view(torch.int32) + (1 << DROPPED - 1)
    return (bits & -(1 << DROPPED)).view(torch.float32)
