"""ANN + method -> spiking network: thresholds from calibration, neurons and pools in place of nonlinearities, corrections."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from msat.calibration import Calibration
from msat.coding import DifferentialNeuron, DifferentialPool, DifferentialReadout
from msat.method import Method
from msat.network import MaxPool, Network, Relu, SpikingNetwork, SpikingStage
from msat.neurons import Neuron, Population, SumReadout


@torch.no_grad()
def convert(method: Method, calibration: Calibration) -> SpikingNetwork:
    """Convert a network with a method; nothing but the calibration is read.

    Raises:
        UserError: a site never fires on the calibration inputs.
    """
    axes = method.axes
    calibration = replace(calibration, network=axes.pool.arrange(calibration.network))
    network = calibration.network
    thresholds = dict(zip(network.sites, axes.threshold.fit(calibration), strict=True))
    biases = _bias_pass(network) if axes.coding == "differential" else []
    stages: list[SpikingStage] = []
    for position, stage in enumerate(network.stages):
        population: Population
        offset = None
        if isinstance(stage.rule, Relu):
            theta = thresholds[position]
            population = axes.neuron.adapt(calibration).bind(theta, axes.initial.potential(theta))
            offset = theta / (2 * calibration.steps) if axes.shift else None
        elif isinstance(stage.rule, MaxPool):
            spikes = isinstance(stage.synapses, nn.Identity) and axes.coding == "rate"
            population = axes.pool.population(stage.rule, axes.neuron.spike_kind if spikes else "graded")
        else:
            population = axes.readout.population(SpikingNetwork(network, tuple(stages)), calibration)
        if biases:
            bias = biases[position] if stage.constant or offset is None else biases[position] + offset
            population = _differential(population, bias)
        stages.append(SpikingStage(stage, population, offset))
    spiking = SpikingNetwork(network, tuple(stages), axes.coding == "differential", axes.warm_up)
    for correction in axes.corrections:
        spiking = correction.apply(spiking, calibration)
    return spiking


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
