"""Reads a stage's linear expression as a sum of chains over its sources: average pool, convolution or linear layer, shortcut."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

Pair = tuple[int, int]
ONE = (1, 1)


class Unmatched(Exception):
    """The expression holds something that the kernels do not know; the stage then runs dense."""


@dataclass(frozen=True)
class Convolution:
    """A convolution in two dimensions, sizes [height, width]; a linear layer is one whose window is the whole map."""

    weight: Tensor
    """[channels out, channels in / groups, *kernel]."""
    stride: Pair = ONE
    padding: Pair = (0, 0)
    dilation: Pair = ONE
    groups: int = 1

    @property
    def kernel(self) -> Pair:
        return self.weight.shape[2], self.weight.shape[3]


@dataclass(frozen=True)
class Chain:
    """What happens to one source on its way into the current: pool, then convolution; or slice and shift of an identity."""

    source: int
    """Position in the stage's list of sources."""
    shape: tuple[int, int, int]
    """Channels, height, width of the source behind the pool (or slice)."""
    dims: int
    """Spatial dimensions of the tensor as the expression sees it; 0 after flattening."""
    pool: Pair = ONE
    convolution: Convolution | None = None
    stride: Pair = ONE
    offset: int = 0
    """Channels in front of an identity's own."""
    extent: int = 0
    """Channels of the padded identity; 0 where it was not padded."""

    @property
    def raw(self) -> bool:
        """True as long as a convolution may still follow."""
        return self.convolution is None and self.stride == ONE and not self.extent


@dataclass(frozen=True)
class Expression:
    """A sum of chains and a bias per channel."""

    chains: tuple[Chain, ...]
    bias: Tensor | None = None


def plan(synapses: nn.Module, shapes: Sequence[tuple[int, ...]]) -> Expression:
    """Return the expression of a stage whose sources have these shapes, without the batch dimension.

    Raises:
        Unmatched: the kernels cannot run it.
    """
    chains = [Expression((Chain(i, spread(shape), len(shape) - 1),)) for i, shape in enumerate(shapes)]
    result = chains[0] if isinstance(synapses, nn.Identity) else _Reader(synapses).run(*chains)
    if not isinstance(result, Expression):
        raise Unmatched("not an expression")
    for chain in result.chains:
        if chain.convolution is None and (chain.pool != ONE or chain.dims != chain_dims(shapes[chain.source])):
            raise Unmatched("a pool or a flattening without a layer behind it")
    return result


def spread(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return [channels, height, width] of a population with 0, 1 or 2 spatial dimensions."""
    if len(shape) not in {1, 2, 3}:
        raise Unmatched(f"shape {shape}")
    return shape[0], shape[1] if len(shape) == 3 else 1, shape[-1] if len(shape) > 1 else 1


def chain_dims(shape: tuple[int, ...]) -> int:
    return len(shape) - 1


class _Reader(fx.Interpreter):
    """Runs the graph on expressions instead of tensors."""

    def __init__(self, module: nn.Module) -> None:
        if not isinstance(module, fx.GraphModule):
            raise Unmatched(type(module).__name__)
        super().__init__(module)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer, x = self.fetch_attr(str(target)), args[0]
        if isinstance(layer, nn.Conv1d | nn.Conv2d) and layer.padding_mode == "zeros" and layer.padding != "same":
            padding = (0,) * len(layer.stride) if isinstance(layer.padding, str) else layer.padding
            weight = layer.weight if layer.weight.dim() == 4 else layer.weight.unsqueeze(2)
            stride, dilation = _pair(layer.stride, 1), _pair(layer.dilation, 1)
            convolution = Convolution(weight, stride, _pair(padding, 0), dilation, layer.groups)
            return _convolve(x, convolution, layer.bias, layer.weight.dim() - 2)
        if isinstance(layer, nn.Linear):
            return _linear(x, layer.weight, layer.bias)
        if isinstance(layer, nn.Flatten) and layer.start_dim == 1 and layer.end_dim == -1:
            return _flatten(x)
        if isinstance(layer, nn.AvgPool1d | nn.AvgPool2d):
            plain = not layer.ceil_mode and getattr(layer, "divisor_override", None) is None
            return _average(x, layer.kernel_size, layer.stride, layer.padding, plain)
        if isinstance(layer, nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d):
            return _adaptive(x, layer.output_size)
        raise Unmatched(type(layer).__name__)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        known = FUNCTIONS.get(target)
        if known is None:
            raise Unmatched(str(target))
        return known(*args, **kwargs)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        known = METHODS.get(str(target))
        if known is None:
            raise Unmatched(str(target))
        return known(*args, **kwargs)


def _pair(size: Any, fill: int) -> Pair:
    """Return (height, width) for a number or for sizes of one or two dimensions."""
    if isinstance(size, int):
        return size, size
    return (fill, int(size[0])) if len(size) == 1 else (int(size[0]), int(size[1]))


def _expression(x: Any) -> Expression:
    if not isinstance(x, Expression):
        raise Unmatched("an operand that is not a sum of chains")
    return x


def _each(x: Any, change: Callable[[Chain], Chain]) -> Expression:
    """Apply a linear operation without a bias to every chain of a sum that has none."""
    if _expression(x).bias is not None:
        raise Unmatched("an operation behind a layer with a bias")
    return Expression(tuple(change(chain) for chain in x.chains))


def _convolve(x: Any, convolution: Convolution, bias: Tensor | None, dims: int) -> Expression:
    def change(chain: Chain) -> Chain:
        if not chain.raw or chain.dims != dims:
            raise Unmatched("a convolution behind a layer, a slice or a flattening")
        return replace(chain, convolution=convolution)

    return Expression(_each(x, change).chains, bias)


def _linear(x: Any, weight: Tensor, bias: Tensor | None) -> Expression:
    def change(chain: Chain) -> Chain:
        if not chain.raw or chain.dims:
            raise Unmatched("a linear layer behind a layer or over the last of several dimensions")
        return replace(chain, convolution=Convolution(weight.view(-1, *chain.shape)))

    return Expression(_each(x, change).chains, bias)


def _flatten(x: Any, start: int = 1, end: int = -1) -> Expression:
    if (start, end) != (1, -1):
        raise Unmatched("a flattening that is not flatten(1)")

    def change(chain: Chain) -> Chain:
        if not chain.raw:
            raise Unmatched("a flattening behind a layer")
        return replace(chain, dims=0)

    return _each(x, change)


def _view(x: Any, *shape: Any) -> Expression:
    if len(shape) != 2 or shape[1] != -1:
        raise Unmatched("a view that is not view(n, -1)")
    return _flatten(x)


def _average(x: Any, kernel: Any, stride: Any = None, padding: Any = 0, plain: bool = True, *rest: Any) -> Expression:
    size = _pair(kernel, 1)
    if not plain or rest or (stride and _pair(stride, 1) != size) or any(_pair(padding, 0)):
        raise Unmatched("an average pool whose windows overlap or leave the map")

    def change(chain: Chain) -> Chain:
        window = size if chain.dims == 2 else (1, size[1])
        if not chain.raw or chain.pool != ONE or not chain.dims:
            raise Unmatched("an average pool behind another operation")
        c, h, w = chain.shape
        return replace(chain, pool=window, shape=(c, h // window[0], w // window[1]))

    return _each(x, change)


def _adaptive(x: Any, size: Any) -> Expression:
    wanted = _pair(size, 1)

    def change(chain: Chain) -> Chain:
        c, h, w = chain.shape
        high, wide = wanted if chain.dims == 2 else (1, wanted[1])
        if not chain.raw or chain.pool != ONE or not chain.dims or h % high or w % wide:
            raise Unmatched("an adaptive average pool with unequal windows")
        return replace(chain, pool=(h // high, w // wide), shape=(c, high, wide))

    return _each(x, change)


def _mean(x: Any, dim: Any = None, keepdim: bool = False) -> Expression:
    dims = sorted(d for d in ((dim,) if isinstance(dim, int) else dim or ()))
    pooled = _adaptive(x, 1)
    spatial = {tuple(range(2, 2 + chain.dims)) for chain in pooled.chains}
    negative = {tuple(range(-chain.dims, 0)) for chain in pooled.chains}
    if {tuple(dims)} not in (spatial, negative):
        raise Unmatched("a mean that is not over all pixels")
    return pooled if keepdim else _flatten(pooled)


def _slice(x: Any, key: Any) -> Expression:
    """Read x[:, :, ::a, ::b]."""
    if not isinstance(key, tuple) or not all(
        isinstance(k, slice) and k.start in {None, 0} and k.stop is None for k in key
    ):
        raise Unmatched("an index that is not every n-th pixel")
    steps = [k.step or 1 for k in key]

    def change(chain: Chain) -> Chain:
        if not chain.raw or chain.pool != ONE or len(steps) != chain.dims + 2 or steps[:2] != [1, 1]:
            raise Unmatched("a slice of batch or channels, or behind another operation")
        stride, (c, h, w) = _pair(steps[2:], 1), chain.shape
        return replace(chain, stride=stride, shape=(c, -(-h // stride[0]), -(-w // stride[1])))

    return _each(x, change)


def _pad(x: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Expression:
    """Read zero padding of channels in front and behind."""

    def change(chain: Chain) -> Chain:
        if (
            chain.convolution
            or chain.pool != ONE
            or len(pad) != 2 * chain.dims + 2
            or any(pad[:-2])
            or min(pad[-2:]) < 0
        ):
            raise Unmatched("padding of anything but channels")
        return replace(chain, offset=pad[-2], extent=pad[-2] + chain.shape[0] + pad[-1])

    if mode != "constant" or value:
        raise Unmatched("padding with anything but zeros")
    return _each(x, change)


def _add(a: Any, b: Any) -> Expression:
    a, b = _expression(a), _expression(b)
    biases = [bias for bias in (a.bias, b.bias) if bias is not None]
    return Expression(a.chains + b.chains, sum(biases[1:], biases[0]) if biases else None)


FUNCTIONS: dict[Any, Callable[..., Expression]] = {
    operator.add: _add, operator.iadd: _add, torch.add: _add, operator.getitem: _slice, F.pad: _pad,
    torch.flatten: _flatten, torch.mean: _mean, F.avg_pool1d: _average, F.avg_pool2d: _average, torch.avg_pool1d: _average,
    F.adaptive_avg_pool1d: _adaptive, F.adaptive_avg_pool2d: _adaptive, torch.adaptive_avg_pool1d: _adaptive,
}  # fmt: skip
METHODS: dict[str, Callable[..., Expression]] = {
    "flatten": _flatten, "view": _view, "reshape": _view, "mean": _mean, "add": _add, "add_": _add,
}  # fmt: skip
