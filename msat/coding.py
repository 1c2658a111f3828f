"""Differential coding (DCGS, Huang et al. 2025; methods.md D1): a spike changes the receiver's running estimate and stays."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from msat.neurons import ZERO, Emission, Neuron, Operations, Population, SpikeKind, Tally


class Estimates(NamedTuple):
    """State of a differential unit: running estimates of its input and output, the unit's own state, steps so far."""

    e_in: Tensor
    e_out: Tensor
    inner: Any
    t: int


@dataclass(frozen=True, eq=False)
class DifferentialNeuron(Population):
    """A neuron that tracks its cumulative output (`sent`), fed with and sending changes.

    `bias` is the current from zero input, found in one bias pass before step 1: [1, ...].
    """

    inner: Neuron
    bias: Tensor = ZERO
    spike_kind: ClassVar[SpikeKind] = "pow2"

    @property
    def operations(self) -> Operations:
        """The neuron's own, and: x - b, + e_in, - e_out, C += e_out, and the two estimates with their shares 1/t."""
        own = self.inner.operations
        return own._replace(additions=own.additions + 6, multiplications=own.multiplications + 2)

    def start(self, current: Tensor, samples: Tensor) -> Estimates:
        e_in = torch.zeros_like(current) + self.bias
        return Estimates(e_in, torch.zeros_like(current), self.inner.start(current, samples), 0)

    def step(self, current: Tensor, state: Estimates) -> tuple[Emission, Estimates]:
        t, change = state.t + 1, current - self.bias
        inner = state.inner._replace(sent=state.inner.sent + state.e_out)  # (2)
        emission, inner = self.inner.step(change + state.e_in - state.e_out, inner)  # (1), (3), (4)
        e_in, e_out = state.e_in + change / t, state.e_out + emission.output / t  # (5)
        return emission, Estimates(e_in, e_out, inner, t)


@dataclass(frozen=True, eq=False)
class DifferentialPool(Population):
    """A spiking pool on running estimates: pools the rate-coded equivalent and sends the change of the result."""

    inner: Population
    bias: Tensor = ZERO
    spike_kind: ClassVar[SpikeKind] = "graded"

    @property
    def operations(self) -> Operations:
        """The pool's own, and: x - b, + e_in, - e_out, and the two estimates with their shares 1/t."""
        own = self.inner.operations
        return own._replace(additions=own.additions + 5, multiplications=own.multiplications + 2)

    def start(self, current: Tensor, samples: Tensor) -> Estimates:
        e_in = torch.zeros_like(current) + self.bias
        return Estimates(e_in, ZERO, self.inner.start(current, samples), 0)

    def step(self, current: Tensor, state: Estimates) -> tuple[Emission, Estimates]:
        t, change = state.t + 1, current - self.bias
        pooled, inner = self.inner.step(change + state.e_in, state.inner)
        output = pooled.output - state.e_out
        return Emission(output), Estimates(state.e_in + change / t, state.e_out + output / t, inner, t)


@dataclass(frozen=True, eq=False)
class DifferentialReadout(Population):
    """The logits are the running estimate itself."""

    bias: Tensor = ZERO
    operations = Operations(additions=2, multiplications=1)

    def start(self, current: Tensor, samples: Tensor) -> Tally:
        return Tally(torch.zeros_like(current) + self.bias, 0)

    def step(self, current: Tensor, state: Tally) -> tuple[Emission, Tally]:
        tally = Tally(state.score + (current - self.bias) / (state.t + 1), state.t + 1)
        return Emission(tally.score), tally
