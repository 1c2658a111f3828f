"""Which operations of torch are sites, max-pools or linear: every spelling that tracing understands, and the refusal of the rest."""

import operator
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from msat.errors import UnsupportedNetwork
from msat.network import MaxPool, Nonlinearity, Relu

RELU_FUNCTIONS = {F.relu, torch.relu, F.relu_, torch.relu_, F.relu6}
LINEAR_MODULES = (
    nn.Conv1d, nn.Conv2d, nn.Linear, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d,
    nn.Flatten, nn.Unflatten, nn.ZeroPad1d, nn.ZeroPad2d, nn.ConstantPad1d, nn.ConstantPad2d,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.PixelShuffle,
)  # fmt: skip
LINEAR_FUNCTIONS = {
    F.avg_pool1d, F.avg_pool2d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.pad, F.conv1d, F.conv2d, F.linear,
    torch.flatten, torch.cat, torch.concat, torch.mean, torch.sum, torch.permute, torch.transpose, torch.reshape,
    torch.squeeze, torch.unsqueeze, torch.stack, torch.neg, torch.chunk, torch.split,
    torch.add, torch.sub, operator.add, operator.sub, operator.iadd, operator.isub, operator.neg, operator.getitem,
    torch.avg_pool1d, torch.conv1d, torch.conv2d, torch.adaptive_avg_pool1d,
}  # fmt: skip
LINEAR_METHODS = {
    "view", "reshape", "flatten", "permute", "transpose", "contiguous", "mean", "sum", "squeeze", "unsqueeze", "add",
    "add_", "sub", "sub_", "neg", "chunk", "split", "size", "dim", "to", "float", "unflatten",
}  # fmt: skip
SCALINGS = {torch.mul, torch.div, operator.mul, operator.truediv, operator.imul, "mul", "mul_", "div", "div_"}
MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d)
MAX_POOL_FUNCTIONS = {
    F.max_pool1d: 1, F.max_pool2d: 2, torch.max_pool1d: 1, torch.max_pool2d: 2,
    F.adaptive_max_pool1d: 1, F.adaptive_max_pool2d: 2,
}  # fmt: skip
REMEDY = "replace it by ReLU or a linear operation and train again, or move it before the first ReLU"


class Scaling(nn.Module):
    """y = scale_c x + shift_c per channel: batch normalisation at inference, where nothing takes it in."""

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None and norm.running_var is not None
        weight = norm.weight if norm.affine else torch.ones_like(norm.running_mean)
        bias = norm.bias if norm.affine else torch.zeros_like(norm.running_mean)
        scale = weight.detach() / torch.sqrt(norm.running_var + norm.eps)
        self.weight = nn.Parameter(scale)
        self.bias = nn.Parameter(bias.detach() - scale * norm.running_mean)

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1) + (1,) * (x.dim() - 2)
        return x * self.weight.view(shape) + self.bias.view(shape)


def nonlinearity(node: fx.Node, module: fx.GraphModule, shapes: dict[fx.Node, torch.Size]) -> Nonlinearity | None:
    """Return the site or max-pool that a node is, None for anything else."""
    called = module.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(called, nn.ReLU6) or node.target is F.relu6:
        return Relu(6.0)
    if isinstance(called, nn.ReLU) or node.target in RELU_FUNCTIONS or node.target in {"relu", "relu_"}:
        return Relu()
    if isinstance(called, nn.Hardtanh) and called.min_val == 0:
        return Relu(float(called.max_val))
    if node.target in {torch.clamp, "clamp", "clamp_", "clamp_min", "clamp_min_"}:
        return _clamp(node)
    if isinstance(called, MAX_POOLS):
        if called.return_indices:
            return None
        dims = 1 if isinstance(called, nn.MaxPool1d) else 2
        return _max_pool(dims, called.kernel_size, called.stride, called.padding, called.dilation, called.ceil_mode)
    if isinstance(called, nn.AdaptiveMaxPool1d | nn.AdaptiveMaxPool2d):
        dims = 1 if isinstance(called, nn.AdaptiveMaxPool1d) else 2
        return _adaptive(node, called.output_size, dims, shapes)
    if node.op == "call_function" and node.target in MAX_POOL_FUNCTIONS:
        dims = MAX_POOL_FUNCTIONS[node.target]
        if node.target in {F.adaptive_max_pool1d, F.adaptive_max_pool2d}:
            return _adaptive(node, node.args[1] if len(node.args) > 1 else node.kwargs["output_size"], dims, shapes)
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        given = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
        return _max_pool(
            dims,
            *(given.get(name, default) for name, default in zip(names, (None, None, 0, 1, False), strict=True)),
        )
    return None


def _clamp(node: fx.Node) -> Relu | None:
    names = ("min", "max")
    given = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
    if given.get("min") != 0:
        return None
    cap = given.get("max")
    return Relu(float(cap) if isinstance(cap, int | float) else None)


def _max_pool(dims: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: Any) -> MaxPool:
    def spread(value: Any) -> tuple[int, ...]:
        return (value,) * dims if isinstance(value, int) else tuple(value)

    kernel = spread(kernel)
    return MaxPool(kernel, spread(stride) if stride else kernel, spread(padding), spread(dilation), bool(ceil))


def _adaptive(node: fx.Node, size: Any, dims: int, shapes: dict[fx.Node, torch.Size]) -> MaxPool:
    incoming = shapes[node.all_input_nodes[0]][-dims:]
    wanted = (size,) * dims if isinstance(size, int) else tuple(size)
    if any(have % want for have, want in zip(incoming, wanted, strict=True)):
        raise UnsupportedNetwork(
            f"adaptive max-pool '{node.name}' maps {tuple(incoming)} to {wanted}, which has unequal windows; use a plain max-pool."
        )
    kernel = tuple(have // want for have, want in zip(incoming, wanted, strict=True))
    return MaxPool(kernel, kernel, (0,) * dims, (1,) * dims)


def require_linear(node: fx.Node, module: fx.GraphModule, spiking: Iterable[fx.Node]) -> None:
    """Refuse a node that follows a site and is not linear in it."""
    if node.op in {"output", "get_attr"}:
        return
    called = module.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(called, (*LINEAR_MODULES, Scaling)):
        return
    if node.op == "call_function" and node.target in LINEAR_FUNCTIONS:
        return
    if node.op == "call_method" and node.target in LINEAR_METHODS:
        return
    factors = [a for a in node.args if isinstance(a, fx.Node) and a in set(spiking)]
    if node.target in SCALINGS and len(factors) == 1 and node.args[0] is factors[0]:
        others = [a for a in node.args[1:] if isinstance(a, fx.Node)]
        if all(other.op == "get_attr" for other in others):
            return
    if node.target is getattr and node.args[1] == "shape":
        return
    what = type(called).__name__ if called is not None else getattr(node.target, "__name__", str(node.target))
    raise UnsupportedNetwork(f"node '{node.name}' ({what}) follows a ReLU and is not linear in it; {REMEDY}.")
