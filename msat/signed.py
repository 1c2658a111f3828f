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
    operations: ClassVar[Operations] = Operations(additions=6)

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
