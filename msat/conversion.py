"""ANN + method -> spiking network: thresholds from calibration, neurons and pools in place of nonlinearities, corrections."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from msat.calibration import Calibration
from msat.coding import DifferentialNeuron, DifferentialPool, DifferentialReadout
from msat.errors import UserError
from msat.method import Correction, Method
from msat.network import MaxPool, Network, Relu, SpikingNetwork, SpikingStage
from msat.neurons import Neuron, Population, SumReadout
from msat.pooling import SpikingPool, behind


@torch.no_grad()
def convert(method: Method, calibration: Calibration) -> SpikingNetwork:
    """Convert a network with a method; nothing but the calibration is read.

    Raises:
        UserError: a site never fires on the calibration inputs, or differential coding meets a ReLU6.
    """
    axes = method.axes
    calibration = replace(calibration, network=axes.pool.arrange(calibration.network))
    network = calibration.network
    fitted = axes.threshold.fit(calibration)
    if len(fitted) != len(network.sites):
        raise UserError(
            f"{type(axes.threshold).__name__} gives {len(fitted)} thresholds for {len(network.sites)} sites; return one for each."
        )
    thresholds = dict(zip(network.sites, fitted, strict=True))
    biases = _bias_pass(network) if axes.coding == "differential" else []
    shapes = network.shapes()
    stages: list[SpikingStage] = []
    for position, stage in enumerate(network.stages):
        population: Population
        offset = None
        if isinstance(stage.rule, Relu):
            if stage.rule.cap is not None and biases:
                raise UserError(
                    f"site '{stage.name}' is a ReLU6, whose cap differential coding cannot hold (its estimates add up over the"
                    " steps); choose a rate-coded method."
                )
            rule = type(axes.threshold).__name__
            theta = within(
                usable(thresholds[position], stage.name, rule, shapes[position]), stage.rule.cap, axes.neuron
            )
            population = axes.neuron.adapt(calibration).bind(theta, axes.initial.potential(theta))
            offset = theta / (2 * calibration.steps) if axes.shift else None
        elif isinstance(stage.rule, MaxPool):
            population = axes.pool.population(stage.rule)
        else:
            population = axes.readout.population(SpikingNetwork(network, tuple(stages)), calibration)
        if biases:
            bias = biases[position] if stage.constant or offset is None else biases[position] + offset
            population = _differential(population, bias)
        stages.append(SpikingStage(stage, population, offset))
    spiking = SpikingNetwork(network, tuple(stages), axes.coding == "differential", axes.warm_up)
    for correction in axes.corrections:
        spiking = mended(correction, spiking, calibration)
    return spiking if biases else _with_kinds(spiking)


def mended(correction: Correction, network: SpikingNetwork, calibration: Calibration) -> SpikingNetwork:
    """Return a network after a correction.

    Raises:
        UserError: the correction gives no network, or a threshold that neurons cannot have.
    """
    better = correction.apply(network, calibration)
    name = type(correction).__name__
    if not isinstance(better, SpikingNetwork):
        raise UserError(f"{name} gives {type(better).__name__}; return the corrected network.")
    for stage, shape in zip(better.stages, better.network.shapes(), strict=True):
        if isinstance(stage.population, Neuron):
            usable(stage.population.threshold, stage.stage.name, name, shape)
    return better


def usable(theta: Tensor, site: str, rule: str, shape: tuple[int, ...]) -> Tensor:
    """Return a threshold that neurons can have.

    Args:
        theta: what a threshold rule or a correction gives.
        site: name of the site.
        rule: name of the rule.
        shape: one input's neurons.

    Raises:
        UserError: it is no tensor, not positive and finite, or has no value for each of the neurons.
    """
    if not isinstance(theta, Tensor):
        raise UserError(f"{rule} gives {type(theta).__name__} for site '{site}'; return a tensor of thresholds.")
    bad = theta[~((theta > 0) & theta.isfinite())]
    if len(bad):
        raise UserError(
            f"{rule} gives site '{site}' a threshold of {bad[0].item():g}; thresholds must be positive and finite."
        )
    fits = theta.dim() <= len(shape) + 1 and all(
        n in {1, wanted} for n, wanted in zip(reversed(theta.shape), (*reversed(shape), 1), strict=False)
    )
    if not fits:
        raise UserError(
            f"{rule} gives site '{site}' thresholds of the shape {tuple(theta.shape)}, its neurons have {shape}; return [] for"
            f" the layer, {(shape[0], *[1] * (len(shape) - 1))} for channels or {shape} for neurons."
        )
    return theta


def within(theta: Tensor, cap: float | None, neuron: Neuron) -> Tensor:
    """Return a threshold with which a neuron cannot send more in a step than the site's activation can be (ReLU6: 6)."""
    return theta if cap is None else theta.clamp(max=cap / neuron.greatest)


def _with_kinds(network: SpikingNetwork) -> SpikingNetwork:
    """Tell every pool of spikes what it pools; last, because corrections may replace thresholds."""
    shapes = network.network.shapes()
    for position, stage in enumerate(network.stages):
        pool, sources = stage.population, stage.stage.sources
        plain = isinstance(stage.stage.synapses, nn.Identity) and len(sources) == 1 and sources[0] >= 0
        if plain and isinstance(pool, SpikingPool) and pool.spike_kind == "graded":
            source = network.stages[sources[0]].population
            network = network.with_stage(position, population=behind(pool, source, len(shapes[sources[0]])))
    return network


def _differential(population: Population, bias: Tensor) -> Population:
    if isinstance(population, Neuron):
        return DifferentialNeuron(population, bias)
    return DifferentialReadout(bias) if isinstance(population, SumReadout) else DifferentialPool(population, bias)


def _bias_pass(network: Network) -> list[Tensor]:
    """Return the current of every stage when all that feeds it is silent: [1, ...].

    A stage fed by constants alone gets zero: its whole current arrives as the change of step 1.
    """
    silent: dict[int, Tensor] = {-1 - k: torch.zeros_like(c) for k, c in enumerate(network.front(network.example))}
    biases = []
    for position, stage in enumerate(network.stages):
        current = stage.synapses(*(silent[source] for source in stage.sources))
        silent[position] = torch.zeros_like(stage.rule(current))
        biases.append(torch.zeros_like(current) if stage.constant else current)
    return biases
