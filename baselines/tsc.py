"""TSC, temporal switch coding (Han & Roy 2020; methods.md B6): the receiver holds its current, so only changes are sent."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from msat.balancing import Balanced
from msat.calibration import Calibration
from msat.method import Axes, Correction, method
from msat.network import SpikingNetwork
from msat.neurons import Emission, IntegrateAndFire, Membrane, Operations, SpikeKind
from msat.pooling import SpikingPool
from msat.thresholds import Fraction


class SwitchState(NamedTuple):
    v: Tensor
    on: Tensor
    """s(t-1): 1 where the receivers' running weight is switched on."""


class PoolState(NamedTuple):
    inner: Any
    on: Tensor
    """1 where the pool sent something at the previous step."""


@dataclass(frozen=True, eq=False)
class TemporalSwitch(IntegrateAndFire):
    """The IF neuron, whose spike train is transmitted as on and off events.

    The receiver sums w(t) = w(t-1) + W e(t) (B6.1), which is W s(t): outputs stay the IF neuron's, events are changes.
    """

    spike_kind: ClassVar[SpikeKind] = "signed"
    operations = Operations(additions=5)  # the comparison with s(t-1), the receiver's running sum

    def start(self, current: Tensor, samples: Tensor) -> SwitchState:  # type: ignore[override]
        rest = self.rest(current)
        return SwitchState(rest, rest.new_zeros(rest.shape))

    def step(self, current: Tensor, state: SwitchState) -> tuple[Emission, SwitchState]:  # type: ignore[override]
        emission, membrane = super().step(current, Membrane(state.v))  # (B6.2), (B6.3)
        s = (emission.output != 0).to(current)
        return Emission(emission.output, (s - state.on).abs()), SwitchState(membrane.v, s)  # (B6.4)


@dataclass(frozen=True, eq=False)
class SwitchedPool(SpikingPool):
    """A pool whose output, too, is transmitted as on and off events."""

    inner: SpikingPool = field(kw_only=True)
    spike_kind: SpikeKind = "signed"  # type: ignore[misc]
    operations = Operations(additions=5)

    def start(self, current: Tensor, samples: Tensor) -> PoolState:
        inner = self.inner.start(current, samples)
        return PoolState(inner, torch.zeros_like(self.inner.step(current, inner)[0].output))

    def step(self, current: Tensor, state: PoolState) -> tuple[Emission, PoolState]:
        emission, inner = self.inner.step(current, state.inner)
        s = (emission.output != 0).to(current)
        return Emission(emission.output, (s - state.on).abs()), PoolState(inner, s)


class SwitchPools(Correction):
    """Puts switched pools behind switched neurons."""

    def apply(self, network: SpikingNetwork, calibration: Calibration) -> SpikingNetwork:
        for position, stage in enumerate(network.stages):
            pool = stage.population
            if isinstance(pool, SpikingPool) and isinstance(stage.stage.synapses, nn.Identity):
                network = network.with_stage(position, population=SwitchedPool(pool.pool, inner=pool))
        return network


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
    return Axes(threshold=Fraction(beta, Balanced()), neuron=TemporalSwitch(), corrections=(SwitchPools(),))
