"""Trained module -> Network: every spelling of ReLU becomes its own site, batch normalisation is folded, the rest is refused by name."""

import copy
import operator
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from msat.errors import UnsupportedNetwork
from msat.network import MaxPool, Network, Nonlinearity, Readout, Relu, Stage

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
REMOVED = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.Identity)
REMOVED_FUNCTIONS = {F.dropout, F.dropout1d, F.dropout2d}
RELU_FUNCTIONS = {F.relu, torch.relu, F.relu_, torch.relu_, F.relu6}
IN_PLACE = {
    F.relu_,
    torch.relu_,
    operator.iadd,
    operator.isub,
    "relu_",
    "add_",
    "sub_",
    "clamp_",
    "clamp_min_",
}
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


def trace(model: nn.Module, example: Tensor) -> Network:
    """Cut a trained network at its nonlinearities.

    Args:
        model: any torch.fx-traceable network ending in logits; it is copied, put in evaluation mode and not changed.
        example: prepared inputs [B, ...]; only shapes are used.

    Returns:
        A `Network` that answers as the model does, up to float rounding of folded batch normalisation.

    Raises:
        UnsupportedNetwork: the model cannot be traced, or holds after its first ReLU what is neither linear nor a max-pool.
    """
    model = copy.deepcopy(model).eval()
    try:
        graph = _Tracer().trace(model)
    except (fx.proxy.TraceError, TypeError, RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise UnsupportedNetwork(
            f"network {type(model).__name__} cannot be traced ({reason}); make its forward free of control flow on data."
        ) from error
    module = fx.GraphModule(model, graph)
    _settle_in_place(graph)
    _remove_dropout(module)
    _fold_batch_norms(module)
    graph.eliminate_dead_code()
    module.recompile()
    return _cut(module, example[:1])


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        owns_recurrent = any(isinstance(child, nn.RNNBase) for child in m.children())
        opaque = owns_recurrent and not any(isinstance(child, nn.ReLU | nn.ReLU6) for child in m.modules())
        return opaque or super().is_leaf_module(m, module_qualified_name)


def _settle_in_place(graph: fx.Graph) -> None:
    """Let every later reader of a tensor that was changed in place read the changed one, as at run time."""
    order = {node: position for position, node in enumerate(graph.nodes)}
    modules = graph.owning_module
    for node in graph.nodes:
        in_place = node.target in IN_PLACE or node.kwargs.get("inplace") is True
        if node.op == "call_module" and modules is not None:
            in_place = getattr(modules.get_submodule(str(node.target)), "inplace", False) is True
        changed = node.args[0] if in_place and node.args else None
        if isinstance(changed, fx.Node):
            later = [user for user in changed.users if order[user] > order[node]]
            for user in later:
                user.replace_input_with(changed, node)


def _remove_dropout(module: fx.GraphModule) -> None:
    for node in list(module.graph.nodes):
        called = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(called, REMOVED) or (node.op == "call_function" and node.target in REMOVED_FUNCTIONS):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)


def _fold_batch_norms(module: fx.GraphModule) -> None:
    """Fold BN into the convolution or linear layer before it; a BN that has none becomes a depthwise scaling."""
    for number, node in enumerate(list(module.graph.nodes)):
        norm = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, BATCH_NORMS):
            continue
        if norm.running_mean is None:
            raise UnsupportedNetwork(
                f"batch normalisation '{node.target}' keeps no running statistics; set track_running_stats=True and train again."
            )
        feeder = node.args[0]
        layer = module.get_submodule(str(feeder.target)) if feeder.op == "call_module" else None
        name = f"folded_{number}"
        if isinstance(layer, nn.Conv1d | nn.Conv2d) and len(feeder.users) == 1:
            module.add_submodule(name, fuse_conv_bn_eval(layer, norm))
        elif isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d) and len(feeder.users) == 1:
            module.add_submodule(name, fuse_linear_bn_eval(layer, norm))
        else:
            module.add_submodule(name, _Scaling(norm))
            node.target = name
            continue
        feeder.target = name
        node.replace_all_uses_with(feeder)
        module.graph.erase_node(node)


class _Scaling(nn.Module):
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


def _cut(module: fx.GraphModule, example: Tensor) -> Network:
    values = _Shapes(module)
    values.run(example)
    rules: dict[fx.Node, Nonlinearity] = {}
    spiking: set[fx.Node] = set()
    for node in module.graph.nodes:
        depends = any(argument in spiking for argument in node.all_input_nodes)
        rule = _nonlinearity(node, module, values.shapes)
        if isinstance(rule, Relu) or (rule is not None and depends):
            rules[node] = rule
        elif depends:
            _require_linear(node, module, spiking)
        if depends or node in rules:
            spiking.add(node)
    output = next(node for node in module.graph.nodes if node.op == "output")
    rules[output] = Readout()
    if not any(isinstance(rule, Relu) for rule in rules.values()):
        raise UnsupportedNetwork(f"network {module._get_name()} has no ReLU, so there is nothing to convert.")
    return _assemble(module, rules, spiking, values.tensors, example)


def _assemble(
    module: fx.GraphModule,
    rules: dict[fx.Node, Nonlinearity],
    spiking: set[fx.Node],
    tensors: set[fx.Node],
    example: Tensor,
) -> Network:
    names: Counter[str] = Counter()
    position: dict[fx.Node, int] = {}
    constants: list[fx.Node] = []
    stages = []
    for node, rule in rules.items():
        feeder = node.args[0]
        if not isinstance(feeder, fx.Node):
            raise UnsupportedNetwork(
                f"node '{node.name}' must take one tensor, got {type(feeder).__name__}; return logits alone."
            )
        boundary = _boundary(feeder, rules, spiking, tensors)
        for source in boundary:
            if source not in position:
                constants.append(source)
                position[source] = -len(constants)
        synapses = nn.Identity() if boundary == [feeder] else _submodule(module, boundary, [feeder])
        stages.append(Stage(_name(node, names), tuple(position[s] for s in boundary), synapses, rule))
        position[node] = len(stages) - 1
    placeholder = next(node for node in module.graph.nodes if node.op == "placeholder")
    front = _submodule(module, [placeholder], constants, many=True)
    return Network(front, tuple(stages), example)


def _boundary(
    feeder: fx.Node, rules: dict[fx.Node, Nonlinearity], spiking: set[fx.Node], tensors: set[fx.Node]
) -> list[fx.Node]:
    """Return what a stage reads, in graph order: sites, pools and constants at the edge of its linear expression."""
    found: dict[fx.Node, None] = {}
    todo, seen = [feeder], set()
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in rules or node not in spiking:
            if node not in tensors:
                raise UnsupportedNetwork(
                    f"node '{node.name}' takes a size from the network's input; use flatten(1) so that shapes follow the data."
                )
            if node.op != "get_attr":
                found[node] = None
            continue
        todo.extend(node.all_input_nodes)
    order = {node: i for i, node in enumerate(feeder.graph.nodes)}
    return sorted(found, key=order.__getitem__)


def _submodule(
    module: fx.GraphModule, inputs: list[fx.Node], outputs: list[fx.Node], many: bool = False
) -> fx.GraphModule:
    """Return the part of the graph between `inputs` and `outputs` as a module of its own."""
    graph = fx.Graph()
    copies = {node: graph.placeholder(f"source_{i}") for i, node in enumerate(inputs)}

    def needed(node: fx.Node) -> None:
        if node not in copies:
            for argument in node.all_input_nodes:
                needed(argument)
            copies[node] = graph.node_copy(node, copies.__getitem__)

    for node in outputs:
        needed(node)
    graph.output(tuple(copies[node] for node in outputs) if many else copies[outputs[0]])
    part = fx.GraphModule(module, graph)
    for parameter in part.parameters():
        parameter.requires_grad_(False)
    return part


class _Shapes(fx.Interpreter):
    """Runs the graph once and keeps which nodes are tensors and how large they are."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.tensors: set[fx.Node] = set()
        self.shapes: dict[fx.Node, torch.Size] = {}

    @torch.no_grad()
    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.tensors.add(n)
            self.shapes[n] = value.shape
        return value


def _nonlinearity(node: fx.Node, module: fx.GraphModule, shapes: dict[fx.Node, torch.Size]) -> Nonlinearity | None:
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


def _require_linear(node: fx.Node, module: fx.GraphModule, spiking: Iterable[fx.Node]) -> None:
    """Refuse a node that follows a site and is not linear in it."""
    if node.op in {"output", "get_attr"}:
        return
    called = module.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(called, (*LINEAR_MODULES, _Scaling)):
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


def _name(node: fx.Node, names: Counter[str]) -> str:
    if node.op == "output":
        return "output"
    if node.op == "call_module":
        name = str(node.target)
    else:
        path = list(node.meta.get("nn_module_stack", {}))
        kind = getattr(node.target, "__name__", str(node.target)).strip("_")
        kind = {"fn": "max_pool", "boolean_dispatch": "max_pool"}.get(kind, kind)
        name = ".".join([part for part in path[-1:] if part] + [kind])
    names[name] += 1
    return name if names[name] == 1 else f"{name}#{names[name]}"
