"""LTB: local threshold balancing and delayed evaluation (Bu, Li & Yu 2025; methods.md D2)."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from msat.calibration import Calibration, Site, with_floor
from msat.method import Axes, Initial, ReadoutRule, method
from msat.network import Relu, SpikingNetwork
from msat.neurons import Emission, Neuron, Operations, Population
from msat.pooling import BeforeNeuron
from msat.thresholds import ThresholdRule

LEAST = 4
"""Fewest steps that the delayed readout averages over."""


@dataclass(frozen=True)
class LocallyBalanced(ThresholdRule):
    """theta <- theta + 2 eta mean relu(z - theta), from 0, z from the network clipped at its thresholds.

    One theta per channel after a convolution, per element after a linear layer. The sites are balanced one after the
    other in execution order, so that 1000 iterations cost one pass over the calibration inputs; each iteration sees the
    next `batch` of them.
    """

    iterations: int = 1000
    eta: float = 0.1
    batch: int = 32

    def fit(self, calibration: Calibration) -> list[Tensor]:
        network = calibration.network
        thresholds: list[Tensor] = []

        def clipped(position: int, z: Tensor) -> Tensor:
            rule = network.stages[position].rule
            a = rule(z)
            if not isinstance(rule, Relu):
                return a
            thresholds.append(with_floor(self.balance(a)))
            return torch.minimum(a, thresholds[-1])

        for _ in network.trace(calibration.inputs, activate=clipped):
            pass
        return thresholds

    def threshold(self, site: Site, steps: int) -> Tensor:
        return with_floor(self.balance(site.a))

    def balance(self, a: Tensor) -> Tensor:
        """Return theta for activations [N, C, ...]: [C, 1, ...], or [C] after a linear layer."""
        batches = a.split(self.batch)
        theta = a.new_zeros(a.shape[1], *[1] * (a.dim() - 2))
        for i in range(self.iterations):
            theta = balanced(theta, batches[i % len(batches)], self.eta)
        return theta


def balanced(theta: Tensor, z: Tensor, eta: float) -> Tensor:
    """Return theta after one update with a batch [B, C, ...] (mean form)."""
    return theta + 2 * eta * (z - theta).relu_().mean((0, *range(2, z.dim()))).view(theta.shape)


@dataclass(frozen=True)
class Delayed(ReadoutRule):
    """Starts to average once the first spikes are expected at the readout: t0 = sum over sites of (theta - v0) / max mean a."""

    rate_only: ClassVar[str] = "under differential coding the latest estimate is the answer, with nothing to average"

    def population(self, network: SpikingNetwork, calibration: Calibration) -> Population:
        delays = []
        for site in calibration.sites():
            neuron = network.stages[site.position].population
            assert isinstance(neuron, Neuron)
            delays.append(delay(site.a.mean(0), neuron.threshold, neuron.initial))
        return DelayedReadout(math.floor(sum(delays)))


def delay(mean: Tensor, theta: Tensor, initial: Tensor) -> float:
    """Return the steps until the neuron with the largest mean activation fires; `mean` [C, ...], the rest broadcast to it."""
    strongest = mean.argmax()
    distance = (theta - initial).expand_as(mean).flatten()[strongest]
    return float(distance / mean.flatten()[strongest])


class Totals(NamedTuple):
    """Cumulative scores at the start of the window and at the steps since that it may still move to; steps so far."""

    past: tuple[Tensor, ...]
    t: int


@dataclass(frozen=True, eq=False)
class DelayedReadout(Population):
    """Sum of the last layer's output over the steps (wait, t], or over the last four while t < wait + 4."""

    wait: int = 0
    operations = Operations(additions=2)

    def start(self, current: Tensor, samples: Tensor) -> Totals:
        return Totals((torch.zeros_like(current),), 0)

    def step(self, current: Tensor, state: Totals) -> tuple[Emission, Totals]:
        t = state.t + 1
        past = (*state.past, state.past[-1] + current)
        past = past[-LEAST - 1 :] if t <= self.wait + LEAST else (past[0], past[-1])
        return Emission(past[-1] - past[0]), Totals(past, t)


@method(
    "Bu, Li & Yu 2025, CVPR (LTB)",
    reconstruction="layers are balanced one after the other, eta = 0.1 in mean form (the paper prints none), fewer inputs.",
)
def ltb(iterations: int = 1000, eta: float = 0.1, batch: int = 32, exact_pool: bool = False) -> Axes:
    """Local threshold balancing with delayed evaluation."""
    return Axes(
        threshold=LocallyBalanced(iterations, eta, batch),
        initial=Initial(0.5),
        pool=BeforeNeuron(exact=exact_pool),
        readout=Delayed(),
    )


@method(
    "Bu, Li & Yu 2025, CVPR (LTB)",
    reconstruction="as `ltb` (layers balanced one after the other, eta = 0.1 in mean form, fewer inputs), but the paper's per-step"
    " pool, which over-estimates behind spikes, is exact here.",
)
def ltb_exact() -> Axes:
    """Local threshold balancing with delayed evaluation and an exact max-pool."""
    return ltb.build(exact_pool=True)
