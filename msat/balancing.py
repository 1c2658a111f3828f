"""Threshold balancing: thresholds layer by layer from the currents that earlier, already spiking layers deliver (methods.md B5)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from msat.calibration import Calibration, Site
from msat.errors import UserError
from msat.network import MaxPool, Readout, SpikingStage
from msat.neurons import IntegrateAndFire
from msat.pooling import LateralInhibition, PoolRule
from msat.thresholds import ThresholdRule
from msat.walk import Walk, walked_inputs


@dataclass(frozen=True)
class Balanced(ThresholdRule):
    """theta = largest weighted input current of a layer, over inputs, steps and neurons (Spike-Norm, Sengupta et al. 2019).

    The current is measured, not the potential. `steps` does not follow T, so that thresholds are the same at every T. They
    grow with the steps and with the inputs, of which memory allows fewer the more steps there are (`walk.walked_inputs`).
    """

    steps: int = 32
    """Steps that are simulated for the measurement (Rathi's code: 100 to 2,500, with Poisson input)."""
    neuron: IntegrateAndFire = field(default_factory=IntegrateAndFire)
    pool: PoolRule = field(default_factory=LateralInhibition)

    @torch.no_grad()
    def fit(self, calibration: Calibration) -> list[Tensor]:
        network = calibration.network
        walk = Walk(network, walked_inputs(network, calibration, self.steps), self.steps)
        thresholds = []
        for position, stage in enumerate(network.stages):
            if isinstance(stage.rule, Readout):
                break
            currents = walk.currents(stage)
            if isinstance(stage.rule, MaxPool):
                spiking = SpikingStage(stage, self.pool.population(stage.rule))
            else:
                theta = currents.amax()
                if not theta > 0:
                    raise UserError(
                        f"site '{stage.name}' gets no positive current in {self.steps} steps of threshold balancing, so its threshold"
                        " would not be positive; use more calibration inputs or more steps."
                    )
                theta = theta if stage.rule.cap is None else theta.clamp(max=stage.rule.cap)
                thresholds.append(theta)
                spiking = SpikingStage(stage, self.neuron.bind(theta, torch.zeros_like(theta)))
            walk.send(position, walk.response(spiking, currents))
        return thresholds

    def threshold(self, site: Site, steps: int) -> Tensor:
        raise NotImplementedError("threshold balancing looks at all layers at once; call fit")
