"""DCGS: differential coding, multi-threshold neurons and Gaussian threshold iteration (Huang et al. 2025; methods.md D1)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from msat.calibration import Site, grouped, spread, with_floor
from msat.method import Axes, Initial, method
from msat.multithreshold import MultiThreshold, Retracting
from msat.pooling import BeforeNeuron
from msat.thresholds import ThresholdRule

SOURCE = "Huang et al. 2025, ICML (DCGS)"
FINEST = 1024
"""Most quantisation levels evaluated: beyond it the threshold hardly moves and the iteration costs minutes."""


@dataclass(frozen=True)
class Gaussian(ThresholdRule):
    """theta of least squared error for Gaussian pre-activations quantised to T 2^bits levels, per channel."""

    bits: int = 4

    def threshold(self, site: Site, steps: int) -> Tensor:
        rows = grouped(site.z, "channel").double()
        theta = iterate(rows.mean(1), rows.var(1, correction=0), min(steps * 2**self.bits, FINEST))
        return with_floor(spread(theta.to(site.z), site.z, "channel"))


def iterate(mean: Tensor, variance: Tensor, levels: int, iterations: int = 100) -> Tensor:
    """Return theta <- theta k(theta), iterated from 1, for Gaussian pre-activations; all [channels], activation units.

    Args:
        mean: mu, activation units.
        variance: s^2, activation units squared.
        levels: N, positive output levels.
        iterations: 100 in the authors' code; for wide channels that is short of the fixed point.
    """
    mu, s = mean.unsqueeze(1), variance.sqrt().unsqueeze(1)
    odd = torch.arange(1, 2 * levels, 2, dtype=mean.dtype, device=mean.device)
    theta = torch.ones_like(mu)
    for _ in range(iterations):
        c = odd * theta / (2 * levels)
        e = torch.erf((c - mu) / (math.sqrt(2) * s))
        density = torch.exp(-((c - mu) ** 2) / (2 * s**2))
        gain = (mu / theta) * (1 - e.mean(1, keepdim=True))
        gain = gain + s / (theta * math.sqrt(math.pi / 2)) * density.mean(1, keepdim=True)
        k = gain / (1 - (odd * e).sum(1, keepdim=True) / levels**2)
        theta = theta * torch.where(k.isfinite(), k, 1.0).clamp(min=0)
    return theta.squeeze(1)


@method(
    SOURCE,
    recalibrate_per_T=True,
    reconstruction="thresholds from training inputs, not from test data as in the authors' code; at most 1024 levels; max-pools are exact"
    " for any stride.",
)
def dcgs(members: int = 4) -> Axes:
    """DCGS: differential coding with multi-threshold neurons."""
    return Axes(
        threshold=Gaussian(members),
        neuron=MultiThreshold(members=members),
        pool=BeforeNeuron(exact=True),
        coding="differential",
    )


@method(SOURCE, recalibrate_per_T=True, reconstruction="ablation of DCGS: the same neurons and thresholds, rate-coded.")
def dcgs_rate(members: int = 4) -> Axes:
    """Multi-threshold neurons of DCGS with rate coding."""
    return Axes(threshold=Gaussian(members), neuron=MultiThreshold(members=members), pool=BeforeNeuron(exact=True))


@method(
    SOURCE,
    recalibrate_per_T=True,
    reconstruction="the n = 1 row; number of levels for the threshold taken as T, which the paper does not print.",
)
def dcgs_single() -> Axes:
    """DCGS with a single threshold and its negative."""
    return Axes(
        threshold=Gaussian(0),
        neuron=Retracting(),
        initial=Initial(0.5),
        pool=BeforeNeuron(exact=True),
        coding="differential",
    )
