"""Clean-up of a traced graph: in-place operations settled, dropout removed, batch normalisation folded."""

import operator

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from msat.errors import UnsupportedNetwork
from msat.spellings import Scaling

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
REMOVED = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.Identity)
REMOVED_FUNCTIONS = {F.dropout, F.dropout1d, F.dropout2d}
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


def settle_in_place(graph: fx.Graph) -> None:
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


def remove_dropout(module: fx.GraphModule) -> None:
    """Drop what does nothing at inference."""
    for node in list(module.graph.nodes):
        called = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(called, REMOVED) or (node.op == "call_function" and node.target in REMOVED_FUNCTIONS):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)


def fold_batch_norms(module: fx.GraphModule) -> None:
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
            module.add_submodule(name, Scaling(norm))
            node.target = name
            continue
        feeder.target = name
        node.replace_all_uses_with(feeder)
        module.graph.erase_node(node)
