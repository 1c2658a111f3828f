"""SpikeConverter: layers take turns, spike times carry positional weights (Liu et al. 2022; methods.md C6)."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from msat.errors import UserError
from msat.method import Axes, method
from msat.neurons import Emission, Operations, SpikeKind
from msat.thresholds import Maximum
from msat.window import WindowNeuron


class Digits(NamedTuple):
    """State while digits are sent."""

    u: Tensor
    """What is left of the mean, times base^t: activation units."""
    t: int
    """Digits sent so far."""
    steps: int
    """T."""


@dataclass(frozen=True, eq=False)
class PositionalNeuron(WindowNeuron):
    """Reads a window of T steps, then emits its mean as T digits in base k: at most one spike a step.

    A spike at step t transmits T theta k^-t, so that means over the window are values and every readout stays right.
    The inverse leak of the receiver (u <- k u + W s) is this weight seen from the other side.
    """

    base: float = 2.0
    spike_kind: ClassVar[SpikeKind] = "pow2"

    @property
    def operations(self) -> Operations:
        """The sum that is read; a comparison and a subtraction, and k u, which is a shift in base 2."""
        return Operations(additions=3, multiplications=0 if self.base == 2 else 1)

    def read(self, charge: Tensor, steps: int) -> Digits:
        return Digits(charge / steps, 0, steps)  # what the accumulation phase leaves

    def send(self, state: Digits) -> tuple[Emission, Digits]:
        t, u = state.t + 1, self.base * state.u
        s = (u >= self.threshold).to(u)
        output = self.threshold * s * (state.steps * self.base**-t)
        return Emission(output), Digits(u - self.threshold * s, t, state.steps)


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
