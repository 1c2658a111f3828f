"""Parallel conversion: all steps of a layer at once in closed form, with DA-QCFS offsets (Hao et al. 2025; methods.md D4)."""

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from msat.calibration import Calibration, spread
from msat.method import Axes, Correction, Initial, method
from msat.network import Relu, SpikingNetwork
from msat.neurons import ZERO, Emission, Neuron, Operations
from msat.thresholds import Maximum
from msat.window import WindowNeuron


class SpikeTrain(NamedTuple):
    """State while spikes are sent."""

    total: Tensor
    """Spikes in all."""
    k: int
    """Steps sent so far."""


@dataclass(frozen=True, eq=False)
class ParallelNeuron(WindowNeuron):
    """s(k) = H((sum of x + v0) / k - theta): count = clip(floor((sum x + v0) / theta), 0, T), sent in the first `count` steps.

    `surplus` is e_out: a spike carries theta + surplus.
    """

    surplus: Tensor = ZERO
    operations = Operations(additions=2)

    def read(self, charge: Tensor, steps: int) -> SpikeTrain:
        return SpikeTrain(torch.floor(charge / self.threshold).clamp(0, steps), 0)

    def send(self, state: SpikeTrain) -> tuple[Emission, SpikeTrain]:
        k = state.k + 1
        s = (k <= state.total).to(state.total)  # (1)
        return Emission(s * (self.threshold + self.surplus)), SpikeTrain(state.total, k)  # (2)


@dataclass(frozen=True)
class ErrorOffsets(Correction):
    """DA-QCFS: per channel an input offset e_in and an output surplus e_out that cancel the mean error against the ANN.

    Layer by layer, each on what the already corrected layers before it deliver. The published moving averages
    e_in <- .99 e_in + .01 (mean z_ann - z_q), e_out <- .99 e_out + .01 mean(a_ann - q) are taken at their fixed points:
    e_in = mean(z_ann - z_q) and, as q = (theta + e_out) r, e_out = mean(a_ann - theta r) / (1 + mean r).
    """

    inputs: int = 256
    """Calibration inputs that both branches see."""
    neurons: ClassVar[tuple[type[Neuron], ...]] = (ParallelNeuron,)

    def apply(self, network: SpikingNetwork, calibration: Calibration) -> SpikingNetwork:
        ann, inputs = network.network, calibration.inputs[: self.inputs]
        stages = list(network.stages)
        clean = ann.trace(inputs)

        def quantised(position: int, z: Tensor) -> Tensor:
            _, z_ann, a_ann = next(clean)
            rule, neuron = ann.stages[position].rule, stages[position].population
            if not isinstance(rule, Relu):
                return rule(z)
            assert isinstance(neuron, ParallelNeuron)
            e_in = channel_mean(z_ann - z)
            r = rates(z + e_in, neuron, calibration.steps)
            e_out = channel_mean(a_ann - neuron.threshold * r) / (1 + channel_mean(r))
            stages[position] = replace(stages[position], population=replace(neuron, surplus=e_out), offset=e_in)
            return (neuron.threshold + e_out) * r

        for _ in ann.trace(inputs, activate=quantised):
            pass
        return replace(network, stages=tuple(stages))


def rates(z: Tensor, neuron: Neuron, steps: int) -> Tensor:
    """Return the share of T steps with a spike for constant currents z [B, ...]."""
    return torch.floor((z * steps + neuron.initial) / neuron.threshold).clamp(0, steps) / steps


def channel_mean(values: Tensor) -> Tensor:
    """Return the mean over inputs and positions: [C, 1, ...]."""
    return spread(values.mean((0, *range(2, values.dim()))), values, "channel")


@method(
    "Hao et al. 2025, ICML",
    recalibrate_per_T=True,
    reconstruction="training-free mode; error offsets at the fixed point of the published moving averages. Not causal.",
)
def parallel(corrected: bool = True) -> Axes:
    """Parallel conversion with calibrated offsets, non-causal."""
    return Axes(
        threshold=Maximum("channel"),
        neuron=ParallelNeuron(),
        initial=Initial(0.5),
        corrections=(ErrorOffsets(),) if corrected else (),
    )
