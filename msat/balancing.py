"""Threshold balancing: thresholds layer by layer from the currents that earlier, already spiking layers deliver (methods.md B5)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from msat.backends import choose
from msat.calibration import Calibration, Site
from msat.errors import UserError
from msat.network import MaxPool, Readout, SpikingNetwork, SpikingStage
from msat.neurons import Emission, IntegrateAndFire, Neuron
from msat.pooling import LateralInhibition, PoolRule
from msat.simulation import Chunk, Observer, simulate, tensor_batches
from msat.thresholds import ThresholdRule

INPUTS = 128
"""Most calibration inputs that are simulated."""
BATCH = 32


@dataclass(frozen=True)
class Balanced(ThresholdRule):
    """theta = largest weighted input current of a layer, over inputs, steps and neurons (Spike-Norm, Sengupta et al. 2019).

    The current is measured, not the potential. `steps` does not follow T, so that thresholds are the same at every T. They
    grow with the steps and with the inputs. Every layer simulates those before it anew, which needs no memory for what
    they sent.
    """

    steps: int = 256
    """Steps that are simulated for the measurement (Rathi's code: 100 to 2,500, with Poisson input)."""
    neuron: IntegrateAndFire = field(default_factory=IntegrateAndFire)
    pool: PoolRule = field(default_factory=LateralInhibition)

    @torch.no_grad()
    def fit(self, calibration: Calibration) -> list[Tensor]:
        network, inputs = calibration.network, calibration.inputs[:INPUTS]
        before: list[SpikingStage] = []
        thresholds = []
        for stage in network.stages:
            if isinstance(stage.rule, Readout):
                break
            if isinstance(stage.rule, MaxPool):
                before.append(SpikingStage(stage, self.pool.population(stage.rule)))
                continue
            listening = SpikingNetwork(network, (*before, SpikingStage(stage, Listening(threshold=torch.ones(())))))
            theta = largest_current(listening, inputs, self.steps)
            if not theta > 0:
                raise UserError(
                    f"site '{stage.name}' gets no positive current in {self.steps} steps of threshold balancing, so its threshold"
                    " would not be positive; use more calibration inputs or more steps."
                )
            theta = theta if stage.rule.cap is None else theta.clamp(max=stage.rule.cap)
            thresholds.append(theta)
            before.append(SpikingStage(stage, self.neuron.bind(theta, torch.zeros_like(theta))))
        return thresholds

    def threshold(self, site: Site, steps: int) -> Tensor:
        raise NotImplementedError("threshold balancing looks at all layers at once; call fit")


@dataclass(frozen=True, eq=False)
class Listening(Neuron):
    """Sends each current that is larger than all before it; its state is the largest so far, 0 at first."""

    def start(self, current: Tensor, samples: Tensor) -> Tensor:
        return torch.zeros_like(current)

    def step(self, current: Tensor, state: Tensor) -> tuple[Emission, Tensor]:
        largest = torch.maximum(current, state)
        return Emission(torch.where(current > state, current, torch.zeros_like(current))), largest


class Largest(Observer):
    """The largest output of one stage.

    Args:
        position: the stage.
    """

    def __init__(self, position: int) -> None:
        self.position = position
        self.value: Tensor | None = None

    def see(self, chunk: Chunk) -> None:
        if chunk.position == self.position:
            largest = chunk.traffic.output().amax()
            self.value = largest if self.value is None else torch.maximum(self.value, largest)


def largest_current(network: SpikingNetwork, inputs: Tensor, steps: int) -> Tensor:
    """Return the largest current of the last stage, which listens, over all inputs [N, ...], steps and neurons; at least 0."""
    observer = Largest(len(network.stages) - 1)
    simulate(network, tensor_batches(inputs, BATCH), steps, [observer], choose(device=inputs.device.type))
    assert observer.value is not None
    return observer.value
