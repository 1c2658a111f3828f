"""Weight calibration: a layer's synapses fitted to the ANN's activations, given the spikes it really gets (methods.md B8)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from msat.network import SpikingStage
from msat.neurons import Neuron
from msat.thresholds import quantised
from msat.walk import LayerwiseCorrection, Walk


def straight_through(z: Tensor, theta: Tensor, steps: int) -> Tensor:
    """Return the T-step quantisation of a current whose gradient is that of clipping to [0, theta]."""
    clipped = torch.minimum(z.clamp(min=0), theta)
    return clipped + (quantised(z, theta, steps) - clipped).detach()


@dataclass(frozen=True)
class WeightCalibration(LayerwiseCorrection):
    """Adam on every layer's weights and bias, in forward order, on unlabelled calibration inputs (Li et al. 2021, advanced).

    The loss is the squared error against the ANN's activation, summed over channels and averaged over inputs and space.
    The synapses in front of the first site, whose input is constant, and those of the readout stay as they are.
    """

    iterations: int = 200
    """For each layer; Li et al. take 5,000 of a tenth of the rate."""
    rate: float = 1e-4
    batch: int = 32
    rate_only: ClassVar[str] = (
        "weights are fitted to mean inputs, which differential coding does not send; drop one of the two"
    )

    def mend(
        self, stage: SpikingStage, sources: Sequence[Tensor], currents: Tensor, target: Tensor, walk: Walk
    ) -> SpikingStage:
        neuron = stage.population
        assert isinstance(neuron, Neuron)
        synapses = copy.deepcopy(stage.stage.synapses)
        weights = list(synapses.parameters())
        if not weights:
            return stage
        means = [source.mean(0) for source in sources]
        offset = torch.zeros_like(neuron.threshold) if stage.offset is None else stage.offset
        chance = torch.Generator().manual_seed(len(target))
        with torch.enable_grad():
            for weight in weights:
                weight.requires_grad_(True)
            adam = torch.optim.Adam(weights, lr=self.rate)
            cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.iterations)
            for _ in range(self.iterations):
                picked = torch.randperm(len(target), generator=chance)[: self.batch].to(target.device)
                z = synapses(*(mean[picked] for mean in means)) + offset
                missing = target[picked] - straight_through(z, neuron.threshold, walk.steps)
                adam.zero_grad()
                missing.square().sum(1).mean().backward()
                adam.step()
                cosine.step()
        for weight in weights:
            weight.requires_grad_(False)
        return replace(stage, stage=replace(stage.stage, synapses=synapses))
