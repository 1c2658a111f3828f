"""Corrections that need a simulation on calibration inputs; here the estimate of MSAT's spike confidence (methods.md A.5)."""

from dataclasses import dataclass, replace
from typing import Literal

from msat.adaptive import AdaptiveThreshold, SpikeConfidence
from msat.backends import Folded
from msat.calibration import Calibration
from msat.method import Correction
from msat.network import SpikingNetwork
from msat.observers import Diagnostics
from msat.randomness import seed_for
from msat.simulation import simulate, tensor_batches

INPUTS = 256
"""Calibration inputs that a correction simulates; the statistics are pooled over all neurons of a layer."""


@dataclass(frozen=True)
class EstimateConfidence(Correction):
    """Gives the last site spike confidence p, measured on calibration inputs with the filter off after E steps."""

    steps: int = 16
    reset: Literal["sent", "gated"] = "sent"

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
