"""TSC, temporal switch coding (Han & Roy 2020; methods.md B6): the receiver holds its current, so only changes are sent."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from msat.balancing import Balanced
from msat.method import Axes, method
from msat.neurons import Emission, IntegrateAndFire, Membrane, Operations, SpikeKind
from msat.thresholds import Fraction


class SwitchState(NamedTuple):
    v: Tensor
    on: Tensor
    """s(t-1): 1 where the receivers' running weight is switched on."""


@dataclass(frozen=True, eq=False)
class TemporalSwitch(IntegrateAndFire):
    """The IF neuron, whose spike train is transmitted as on and off events.

    The receiver sums w(t) = w(t-1) + W e(t) (B6.1), which is W s(t): outputs stay the IF neuron's, events are changes.
    """

    spike_kind: ClassVar[SpikeKind] = "signed"
    operations: ClassVar[Operations] = Operations(additions=5)  # the comparison with s(t-1), the receiver's running sum

    def start(self, current: Tensor, samples: Tensor) -> SwitchState:  # type: ignore[override]
        rest = self.rest(current)
        return SwitchState(rest, rest.new_zeros(rest.shape))

    def step(self, current: Tensor, state: SwitchState) -> tuple[Emission, SwitchState]:  # type: ignore[override]
        emission, membrane = super().step(current, Membrane(state.v))  # (B6.2), (B6.3)
        s = (emission.output != 0).to(current)
        return Emission(emission.output, (s - state.on).abs()), SwitchState(membrane.v, s)  # (B6.4)


def input_switches(p: float, window: int) -> list[tuple[int, int]]:
    """Return the original's code of a pixel p in [-1, 1] in a window of N steps, as (step, sign): on at 1, off at p*.

    Not used in the simulation, where every method gets constant input; it says how many events a pixel would cost.
    """
    end = math.floor(abs(p) * (window - 1)) + 1
    sign = 1 if p > 0 else -1
    return [(1, sign), (end, -sign)] if end >= 2 else []


@method(
    "Han & Roy 2020, ECCV",
    reconstruction="no official code; the neuron of RMP-SNN with transmissions counted as changes of the spike train; constant input"
    " instead of two events a pixel.",
)
def tsc(beta: float = 1.0) -> Axes:
    """Temporal switch coding: on and off events."""
    return Axes(threshold=Fraction(beta, Balanced()), neuron=TemporalSwitch())
