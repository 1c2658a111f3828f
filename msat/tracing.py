"""Trained module -> Network: every ReLU becomes its own site, what lies between is cut into linear stages, the rest is refused by name."""

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn

from msat.errors import UnsupportedNetwork
from msat.folding import fold_batch_norms, remove_dropout, settle_in_place
from msat.network import Network, Nonlinearity, Readout, Relu, Stage
from msat.spellings import nonlinearity, require_linear


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
    settle_in_place(graph)
    remove_dropout(module)
    fold_batch_norms(module)
    graph.eliminate_dead_code()
    module.recompile()
    return _cut(module, example[:1])


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        owns_recurrent = any(isinstance(child, nn.RNNBase) for child in m.children())
        opaque = owns_recurrent and not any(isinstance(child, nn.ReLU | nn.ReLU6) for child in m.modules())
        return opaque or super().is_leaf_module(m, module_qualified_name)


def _cut(module: fx.GraphModule, example: Tensor) -> Network:
    values = _Shapes(module)
    values.run(example)
    rules: dict[fx.Node, Nonlinearity] = {}
    spiking: set[fx.Node] = set()
    for node in module.graph.nodes:
        depends = any(argument in spiking for argument in node.all_input_nodes)
        rule = nonlinearity(node, module, values.shapes)
        if isinstance(rule, Relu) or (rule is not None and depends):
            rules[node] = rule
        elif depends:
            require_linear(node, module, spiking)
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
