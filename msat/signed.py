"""A neuron with positive and negative spikes (methods.md C5, C8)."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from msat.neurons import Emission, Neuron, Operations, SpikeKind


class Memory(NamedTuple):
    v: Tensor
    sent: Tensor
    """M(t): what was transmitted so far, activation units."""


@dataclass(frozen=True, eq=False)
class SignedIntegrateAndFire(Neuron):
    """Up to `cap` spikes of either sign in a step.

    `gated` neurons (ReLU) take back no more than they have sent; ungated ones represent the identity.
    """

    cap: int = 1
    gated: bool = True
    signed: ClassVar[bool] = True
    spike_kind: ClassVar[SpikeKind] = "signed"

    @property
    def operations(self) -> Operations:
        """m and v, and for one spike a comparison on each side, for more rounding, two bounds, m / theta and s theta.

        A gate adds the comparison with what was sent, and its sum.
        """
        gate = 2 if self.gated else 0
        if self.cap == 1:
            return Operations(additions=4 + gate)
        return Operations(additions=5 + gate, multiplications=2)

    @property
    def greatest(self) -> float:
        return float(self.cap)

    def start(self, current: Tensor, samples: Tensor) -> Memory:
        return Memory(self.rest(current), torch.zeros_like(current))

    def step(self, current: Tensor, state: Memory) -> tuple[Emission, Memory]:
        m = state.v + current  # (1)
        s = torch.trunc(m / self.threshold).clamp(-self.cap, self.cap)  # (2)
        if self.gated:
            s = torch.maximum(s, -torch.round(state.sent / self.threshold))
        v = m - self.threshold * s  # (3)
        o = self.threshold * s
        return Emission(o, s.abs()), Memory(v, state.sent + o)  # (4), (5)
