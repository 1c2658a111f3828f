"""A spiking network layer by layer instead of step by step: a stage runs all its steps before the next one starts.

What needs the finished response of a layer before the next may be touched (bias, potential and weight calibration) walks
once over the network this way; cutting and simulating the network anew for every layer would cost the square of its depth.
The price is memory: outputs are held for all steps, so the number of inputs is limited.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from msat.calibration import Calibration
from msat.method import Correction
from msat.network import Network, Readout, Relu, SpikingNetwork, SpikingStage, Stage, last_use

INPUTS = 256
"""Most calibration inputs that are walked."""
FEWEST = 8
VALUES = 1 << 27
"""Values of the largest stage held at once; for VGG16 on 32x32 pixels and T = 32 this leaves 64 inputs."""
FRAMES = 64
"""Frames (steps x inputs) in one call of the synapses."""


def walked_inputs(network: Network, calibration: Calibration, steps: int) -> Tensor:
    """Return the first calibration inputs, as many as `VALUES` allows over `steps` steps: [n, ...]."""
    largest = max(math.prod(shape) for shape in network.shapes())
    return calibration.inputs[: max(FEWEST, min(INPUTS, VALUES // (steps * largest)))]


class Walk:
    """Outputs of all stages so far, for all steps, as long as a later stage reads them.

    Args:
        network: the ANN whose stages are walked.
        inputs: prepared inputs [B, ...].
        steps: T.
    """

    def __init__(self, network: Network, inputs: Tensor, steps: int) -> None:
        constants = network.front(inputs)
        self.steps = steps
        self.samples = torch.arange(len(inputs), device=inputs.device)
        self.last = last_use(network.stages)
        self.sent = {-1 - k: c.expand(steps, *c.shape) for k, c in enumerate(constants)}

    def sources(self, stage: Stage) -> list[Tensor]:
        """Return what the stage's sources sent: [T, B, ...] each."""
        return [self.sent[source] for source in stage.sources]

    def currents(self, stage: Stage) -> Tensor:
        """Return the stage's current at every step, without the offset: [T, B, ...], activation units."""
        sources = self.sources(stage)
        if stage.constant:
            current = stage.synapses(*(source[0] for source in sources))
            return current.expand(self.steps, *current.shape)
        parts = zip(*(source.flatten(0, 1).split(FRAMES) for source in sources), strict=True)
        current = torch.cat([stage.synapses(*part) for part in parts])
        return current.view(self.steps, len(self.samples), *current.shape[1:])

    def response(self, stage: SpikingStage, currents: Tensor) -> Tensor:
        """Return the output of a population from its start state: [T, B, ...], activation units."""
        if stage.offset is not None:
            currents = currents + stage.offset
        state = stage.population.start(currents[0], self.samples)
        return stage.population.scan(currents, state)[0].output

    def send(self, position: int, output: Tensor) -> None:
        """Hand a stage's output [T, B, ...] to the stages behind it."""
        self.sent[position] = output
        self.sent = {source: sent for source, sent in self.sent.items() if self.last.get(source, -1) > position}


class LayerwiseCorrection(Correction):
    """Mends one site after the other in forward order; each sees the spikes of sites already mended. Reads no labels."""

    @abstractmethod
    def mend(
        self, stage: SpikingStage, sources: Sequence[Tensor], currents: Tensor, target: Tensor, walk: Walk
    ) -> SpikingStage:
        """Return the corrected stage.

        Args:
            stage: the site as it is.
            sources: outputs of its sources, [T, B, ...] each.
            currents: its current without the offset, [T, B, ...].
            target: the ANN's activations on the same inputs, [B, ...].
            walk: computes responses.
        """

    @torch.no_grad()
    def apply(self, network: SpikingNetwork, calibration: Calibration) -> SpikingNetwork:
        inputs = walked_inputs(network.network, calibration, calibration.steps)
        walk = Walk(network.network, inputs, calibration.steps)
        for position, _, target in network.network.trace(inputs):
            stage = network.stages[position]
            if isinstance(stage.stage.rule, Readout):
                break
            currents = walk.currents(stage.stage)
            if isinstance(stage.stage.rule, Relu):
                before = stage.stage
                stage = self.mend(stage, walk.sources(stage.stage), currents, target, walk)
                network = network.with_stage(
                    position, stage=stage.stage, population=stage.population, offset=stage.offset
                )
                currents = currents if stage.stage is before else walk.currents(stage.stage)
            walk.send(position, walk.response(stage, currents))
        return network
