"""Corrections that need a simulation on calibration inputs: bias and potential calibration (methods.md B8), spike confidence (A.5)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Tensor

from msat.adaptive import AdaptiveThreshold, SpikeConfidence
from msat.backends import Folded
from msat.calibration import Calibration, spread
from msat.method import Correction
from msat.network import SpikingNetwork, SpikingStage
from msat.neurons import Neuron
from msat.observers import Diagnostics
from msat.randomness import seed_for
from msat.simulation import simulate, tensor_batches
from msat.walk import LayerwiseCorrection, Walk

INPUTS = 256
"""Calibration inputs that the estimate simulates; the statistics are pooled over all neurons of a layer."""


@dataclass(frozen=True)
class EstimateConfidence(Correction):
    """Gives the last site spike confidence p, measured on calibration inputs with the filter off after E steps."""

    steps: int = 16
    reset: Literal["sent", "gated"] = "sent"
    neurons: ClassVar[tuple[type[Neuron], ...]] = (AdaptiveThreshold,)

    def apply(self, network: SpikingNetwork, calibration: Calibration) -> SpikingNetwork:
        last = network.network.sites[-1]
        neuron = network.stages[last].population
        assert isinstance(neuron, AdaptiveThreshold)
        observer = Diagnostics(network.network, self.steps, at=[self.steps])
        inputs = calibration.inputs[:INPUTS]
        simulate(network.prefix(last), tensor_batches(inputs, 32), self.steps, [observer], Folded())
        confidence = SpikeConfidence(
            observer.sites[last].confidence(0),
            seed_for(calibration.seed, "spike confidence"),
            self.steps,
            self.reset,
        )
        return network.with_stage(last, population=replace(neuron, confidence=confidence))


def error(stage: SpikingStage, currents: Tensor, target: Tensor, walk: Walk) -> Tensor:
    """Return ANN activation - mean SNN output over all steps, for each input: [B, ...], activation units."""
    return target - walk.response(stage, currents).mean(0)


@dataclass(frozen=True)
class BiasCalibration(LayerwiseCorrection):
    """b_c <- b_c + (mean ANN - mean SNN output) for each channel, over inputs and space (Li et al. 2021, light)."""

    rate_only: ClassVar[str] = "the bias pass of differential coding removes the calibrated bias; drop one of the two"

    def mend(
        self, stage: SpikingStage, sources: Sequence[Tensor], currents: Tensor, target: Tensor, walk: Walk
    ) -> SpikingStage:
        missing = error(stage, currents, target, walk)
        step = spread(missing.transpose(0, 1).flatten(1).mean(1), missing, "channel")
        return replace(stage, offset=step if stage.offset is None else stage.offset + step)


@dataclass(frozen=True)
class PotentialCalibration(LayerwiseCorrection):
    """v(0) <- v(0) + T (mean ANN - mean SNN output) for each neuron, over inputs (Li et al. 2021, advanced)."""

    rate_only: ClassVar[str] = (
        "potential calibration reads rates, which differential coding does not send; drop one of the two"
    )

    def mend(
        self, stage: SpikingStage, sources: Sequence[Tensor], currents: Tensor, target: Tensor, walk: Walk
    ) -> SpikingStage:
        neuron = stage.population
        assert isinstance(neuron, Neuron)
        charge = walk.steps * error(stage, currents, target, walk).mean(0)
        return replace(stage, population=neuron.bind(neuron.threshold, neuron.initial + charge))
