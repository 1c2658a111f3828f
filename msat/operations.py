"""Exact operation counts from the graph: fan-out of every neuron, multiply-accumulates of the ANN; borders, strides, groups included."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from msat.network import MaxPool, Network, Stage
from msat.neurons import Neuron, Population, SpikeKind
from msat.spellings import Scaling

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)
AVERAGES = {F.avg_pool1d: 1, torch.avg_pool1d: 1, F.avg_pool2d: 2}
ADAPTIVE = {F.adaptive_avg_pool1d: 1, torch.adaptive_avg_pool1d: 1, F.adaptive_avg_pool2d: 2}


def fan_out(network: Network) -> dict[int, Tensor]:
    """Return, for each stage that spikes, the number of synapses that one event of each of its neurons crosses: [...].

    An average pool in front of a synapse layer passes an event on without cost (it folds into the weights); an identity
    shortcut counts one addition; what goes straight into or out of a max-pool is the pool's own work.
    """
    outputs = {-1 - k: c for k, c in enumerate(network.front(network.example))}
    totals: dict[int, Tensor] = {}
    for position, _, output in network.trace(network.example):
        stage = network.stages[position]
        outputs[position] = output
        if isinstance(stage.synapses, nn.Identity) and (isinstance(stage.rule, MaxPool) or _is_pool(network, stage)):
            continue
        for source, count in zip(stage.sources, paths(stage, [outputs[s] for s in stage.sources]), strict=True):
            totals[source] = totals.get(source, 0) + count
    return {source: count for source, count in totals.items() if source >= 0}


def _is_pool(network: Network, reader: Stage) -> bool:
    """Return whether a stage that takes its source as it is takes it from a max-pool (a pool moved before its neuron)."""
    source = reader.sources[0]
    return source >= 0 and isinstance(network.stages[source].rule, MaxPool)


def paths(stage: Stage, sources: list[Tensor]) -> list[Tensor]:
    """Return, for each source of a stage [1, ...], the number of synapses from each of its neurons: float64 [...]."""
    ones = [torch.ones_like(source, dtype=torch.float64, requires_grad=True) for source in sources]
    if isinstance(stage.synapses, nn.Identity):
        return [one.detach()[0] for one in ones]
    assert isinstance(stage.synapses, fx.GraphModule)
    with torch.enable_grad():
        total = PathCounter(stage.synapses).run(*ones).sum()
        return [gradient[0].round() for gradient in torch.autograd.grad(total, ones)]


def carried(population: Population, dims: int) -> SpikeKind:
    """Return what an event carries across synapses.

    Where a channel's neurons, which share weights, have thresholds of their own, every event needs a multiplication,
    whatever the neuron sends (methods.md 0.1: graded unless a count times one constant of a layer or channel).

    Args:
        population: what sends.
        dims: dimensions of one input's neurons.
    """
    neuron = getattr(population, "inner", population)
    if isinstance(neuron, Neuron):
        theta = neuron.threshold
        if any(n > 1 for n in theta.shape[1 + theta.dim() - dims :]):
            return "graded"
    return population.spike_kind


def macs(network: Network) -> list[int]:
    """Return the multiply-accumulates of each stage's synapses for one input; the front's belong to the first stage."""
    outputs = {-1 - k: c for k, c in enumerate(network.front(network.example))}
    counts = []
    for position, _, output in network.trace(network.example):
        stage = network.stages[position]
        outputs[position] = output
        total = front_macs(network) if position == 0 else 0
        if isinstance(stage.synapses, fx.GraphModule):
            graph = PathCounter(stage.synapses)
            graph.run(*(outputs[s].double() for s in stage.sources))
            total += graph.macs
        counts.append(total)
    return counts


def active(output: Tensor, fan: Tensor) -> float:
    """Return how many synapses carry something other than zero, over a batch of outputs [B, ...] of fan-out [...]."""
    return float(((output != 0).sum(0) * fan).sum())


class PathCounter(fx.Interpreter):
    """Runs a linear expression with every weight 1 and every average a sum, and adds up the products of its synapse layers."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.macs = 0

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer = self.fetch_attr(str(target))
        x = args[0]
        if isinstance(layer, (*CONVOLUTIONS, nn.Linear)):
            self.macs += _layer_macs(layer, x)
            return _with_unit_weights(layer, x)
        if isinstance(layer, nn.AvgPool1d | nn.AvgPool2d):
            return _sum_pool(layer(x), layer.kernel_size, 1 if isinstance(layer, nn.AvgPool1d) else 2)
        if isinstance(layer, nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d):
            y = layer(x)
            return y * (x[0, 0].numel() / y[0, 0].numel())
        if isinstance(layer, Scaling):
            return x
        return super().call_module(target, args, kwargs)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target in AVERAGES:
            kernel = args[1] if len(args) > 1 else kwargs["kernel_size"]
            return _sum_pool(target(*args, **kwargs), kernel, AVERAGES[target])
        if target in ADAPTIVE:
            y = target(*args, **kwargs)
            return y * (args[0][0, 0].numel() / y[0, 0].numel())
        if target is torch.mean:
            return torch.sum(*args, **kwargs)
        if target in {torch.mul, torch.div} or getattr(target, "__name__", "") in {"mul", "truediv", "imul"}:
            return args[0]
        return super().call_function(target, args, kwargs)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target == "mean":
            return args[0].sum(*args[1:], **kwargs)
        if target in {"mul", "div", "mul_", "div_"}:
            return args[0]
        return super().call_method(target, args, kwargs)


def _with_unit_weights(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a convolution or linear layer with all weights 1 and no bias."""
    weights = {name: torch.full_like(p, float(name != "bias"), dtype=x.dtype) for name, p in layer.named_parameters()}
    return torch.func.functional_call(layer, weights, (x,))


def _sum_pool(average: Tensor, kernel: Any, dims: int) -> Tensor:
    kernel = kernel if isinstance(kernel, tuple | list) else (kernel,) * dims
    size = 1
    for k in kernel:
        size *= k
    return average * size


def front_macs(network: Network) -> int:
    """Return the products of convolutions, linear and recurrent layers while the front runs once for one input."""
    front = network.front
    seen: list[tuple[nn.Module, Tensor]] = []
    layers = [m for m in front.modules() if isinstance(m, (*CONVOLUTIONS, nn.Linear, nn.RNNBase))]
    hooks = [layer.register_forward_hook(lambda layer, inputs, _: seen.append((layer, inputs[0]))) for layer in layers]
    front(network.example)
    for hook in hooks:
        hook.remove()
    return network.done_macs + sum(_layer_macs(layer, x) for layer, x in seen)


def _layer_macs(layer: nn.Module, x: Tensor) -> int:
    if isinstance(layer, nn.RNNBase):
        steps = x.shape[0] * x.shape[1]
        return steps * sum(p.numel() for name, p in layer.named_parameters() if name.startswith("weight"))
    return round(float(_with_unit_weights(layer, torch.ones_like(x, dtype=torch.float64)).sum()))
