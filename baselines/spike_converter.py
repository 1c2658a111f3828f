"""SpikeConverter: layers take turns, spike times carry positional weights (Liu et al. 2022; methods.md C6)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from msat.errors import UserError
from msat.method import Axes, method
from msat.neurons import Emission, Membrane, Neuron, Operations, SpikeKind
from msat.thresholds import Maximum


@dataclass(frozen=True, eq=False)
class PositionalNeuron(Neuron):
    """Reads a window of T steps, then emits its mean as T digits in base k: at most one spike a step.

    A spike at step t transmits T theta k^-t, so that means over the window are values and every readout stays right.
    The inverse leak of the receiver (u <- k u + W s) is this weight seen from the other side.
    """

    base: float = 2.0
    spike_kind: ClassVar[SpikeKind] = "pow2"
    operations: ClassVar[Operations] = Operations(additions=3, multiplications=1)
    window: ClassVar[bool] = True

    def start(self, current: Tensor, samples: Tensor) -> Membrane:
        return Membrane(self.rest(current))

    def step(self, current: Tensor, state: Membrane) -> tuple[Emission, Membrane]:
        emission, state = self.scan(current.unsqueeze(0), state)
        return Emission(emission.output[0]), state

    def scan(self, currents: Tensor, state: Membrane) -> tuple[Emission, Membrane]:
        """Code one window [T, B, ...]; `v` after it is the charge (activation units x steps) that was not sent."""
        window = len(currents)
        charge = state.v + currents.sum(0)
        u = charge / window  # what the accumulation phase leaves
        outputs = []
        for t in range(1, window + 1):
            u = self.base * u
            s = (u >= self.threshold).to(u)
            u = u - self.threshold * s
            outputs.append(window * self.base**-t * self.threshold * s)
        output = torch.stack(outputs)
        return Emission(output), Membrane(charge - output.sum(0))


@method(
    "Liu et al. 2022, AAAI",
    recalibrate_per_T=True,
    reconstruction="paper not readable; maximum thresholds and base 2 in every layer instead of a search; latency is T for each layer.",
)
def spike_converter(base: float = 2.0) -> Axes:
    """SpikeConverter: positional spikes in alternating windows."""
    if not 1 < base <= 2:
        raise UserError(
            f"binary digits need a base above 1 and at most 2, got {base}; use base=2, or `maximum` for the rate code."
        )
    return Axes(threshold=Maximum(), neuron=PositionalNeuron(base=base))
