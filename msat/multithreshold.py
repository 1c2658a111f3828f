"""Neurons that send one of several thresholds a step, of either sign (DCGS: methods.md D1) or as a sum of bits (H-MT: D8)."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from msat.neurons import Emission, Neuron, Operations, SpikeKind
from msat.signed import Memory


@dataclass(frozen=True, eq=False)
class SignedNeuron(Neuron):
    """A neuron with positive spikes, and negative ones that never take back more than was sent."""

    spike_kind: ClassVar[SpikeKind] = "signed"
    signed: ClassVar[bool] = True

    def start(self, current: Tensor, samples: Tensor) -> Memory:
        return Memory(self.rest(current), torch.zeros_like(current))

    def choose(self, m: Tensor, sent: Tensor) -> Tensor:
        """Return the spike s, activation units, for the potential m and the cumulative output `sent`."""
        raise NotImplementedError

    def step(self, current: Tensor, state: Memory) -> tuple[Emission, Memory]:
        m = state.v + current  # (1)
        s = self.choose(m, state.sent)  # (2)
        return Emission(s), Memory(m - s, state.sent + s)  # (3), (4), (5)


@dataclass(frozen=True, eq=False)
class MultiThreshold(SignedNeuron):
    """Members lambda_i = theta / 2^(i-1), i = 1..n; the largest one that m reaches by three quarters fires (D1)."""

    members: int = 4
    spike_kind: ClassVar[SpikeKind] = "pow2"

    @property
    def operations(self) -> Operations:
        """m, v and what was sent; for each member its two thresholds and whether as much was sent."""
        return Operations(additions=3 + 3 * self.members)

    def choose(self, m: Tensor, sent: Tensor) -> Tensor:
        s = torch.zeros_like(m)
        for i in reversed(range(self.members)):  # from small to large: the largest wins
            member = self.threshold / 2**i
            s = torch.where(m >= 0.75 * member, member, s)
            s = torch.where((m <= -0.75 * member) & (sent >= member), -member, s)
        return s


@dataclass(frozen=True, eq=False)
class Retracting(SignedNeuron):
    """One threshold: +theta at m >= theta, -theta as soon as m <= 0 if that much was sent (D1, the single-threshold neuron)."""

    operations = Operations(additions=6)

    def choose(self, m: Tensor, sent: Tensor) -> Tensor:
        theta = self.threshold + torch.zeros_like(m)
        retracted = torch.where((m <= 0) & (sent >= theta), -theta, torch.zeros_like(m))
        return torch.where(m >= theta, theta, retracted)


class Pair(NamedTuple):
    """State of an H-MT neuron: potentials of its positive and its negative unit."""

    v: Tensor
    v_negative: Tensor
    sent_negative: Tensor
    """o_N at this step, activation units; not transmitted by a ReLU."""


@dataclass(frozen=True, eq=False)
class HybridMultiThreshold(Neuron):
    """Members theta / 2^(i-1), each at most once in a step, so that a step sends a number of n bits (D8).

    `communicate` adds the negative unit, which gets -x and gives back to the positive one what it fires: the pair's
    potentials then always sum to lambda_n, and a ReLU, which transmits the positive unit alone, forgets negative input.
    """

    members: int = 4
    communicate: bool = False
    spike_kind: ClassVar[SpikeKind] = "pow2"

    @property
    def operations(self) -> Operations:
        """m, and for each member a comparison and a subtraction; of both units, and what they give each other."""
        unit = 1 + 2 * self.members
        return Operations(additions=2 * unit + 2 if self.communicate else unit)

    @property
    def greatest(self) -> float:
        return 2.0 - 2.0 ** (1 - self.members)

    @property
    def unit(self) -> Tensor:
        """lambda_n, the smallest member, activation units."""
        return self.threshold / 2 ** (self.members - 1)

    def start(self, current: Tensor, samples: Tensor) -> Pair:
        v = self.rest(current)
        return Pair(v, v, torch.zeros_like(v))

    def bits(self, m: Tensor) -> Tensor:
        """Return the number that the members fire together: greedy from the largest, an integer of n bits."""
        return torch.floor(m / self.unit).clamp(0, 2**self.members - 1)

    def step(self, current: Tensor, state: Pair) -> tuple[Emission, Pair]:
        m = state.v + current
        number = self.bits(m)
        output = number * self.unit
        spikes = sum(((number / 2**i).floor() % 2 for i in range(self.members)), torch.zeros_like(m))
        if not self.communicate:
            return Emission(output, spikes), Pair(m - output, state.v_negative, state.sent_negative)
        m_negative = state.v_negative - current
        negative = self.bits(m_negative) * self.unit
        pair = Pair(m - output + negative, m_negative - negative + output, negative)
        return Emission(output, spikes), pair
