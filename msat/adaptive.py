"""MSAT: multi-stage adaptive threshold and spike confidence (arXiv 2303.13080; methods.md A, equations M1-M11)."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from msat.calibration import Calibration
from msat.neurons import Emission, Neuron, Operations, SpikeKind
from msat.randomness import uniform
from msat.task import CHAIN, AdaptiveParameters


@dataclass(frozen=True)
class SpikeConfidence:
    """Early spikes pass with probability p (M9).

    `sent` loses the charge of a dropped spike, as the authors' code does; `gated` keeps it in the membrane (methods.md A.1, R2).
    """

    p: float
    key: int
    """Seed of the masks; a mask depends on key, test input, neuron and step only."""
    steps: int = 16
    """E: the filter acts for t < E, counted from 0."""
    reset: Literal["sent", "gated"] = "sent"

    def mask(self, like: Tensor, samples: Tensor, t: int) -> Tensor:
        """Return f ~ Bernoulli(p) for each neuron of each test input at step t: [B, ...]."""
        return (uniform(self.key, samples, like.shape[1:], t) >= 1 - self.p).to(like)


class AdaptiveState(NamedTuple):
    v: Tensor
    mean: Tensor
    """Vm: mean of v over the steps so far."""
    spent: Tensor
    """What the previous step's reset took, activation units (for the second reading of the DET argument)."""
    samples: Tensor
    t: int


def dynamic_term(d: Tensor, V: Tensor, p: AdaptiveParameters) -> Tensor:
    """DTT(t) = alpha d + V_T + k_a ln(1 + exp(d / k_i)), V_T = -V (M4; paper Eq. 12)."""
    return p.alpha * d - V + p.k_a * F.softplus(d / p.k_i)


def input_term(x: Tensor, p: AdaptiveParameters) -> Tensor:
    """DET(t) = exp(-x(t) / C) (M5; paper Eq. 13, with the input current as in the authors' code)."""
    return torch.exp(-x / p.C)


def resting_fraction(V: Tensor, p: AdaptiveParameters) -> Tensor:
    """rho(V) = theta / V at d = 0, x = 0: sigmoid(tau_mp (k_a ln 2 - V) + tau_rd) (methods.md A.3)."""
    return torch.sigmoid(p.tau_mp * (p.k_a * math.log(2) - V) + p.tau_rd)


@dataclass(frozen=True, eq=False)
class AdaptiveThreshold(Neuron):
    """IF neuron with a threshold of its own at every step; `threshold` holds V, the layer's maximum activation.

    With both terms off the threshold stays V: the constant-threshold neuron, with spike confidence if that is set.
    """

    parameters: AdaptiveParameters | None = None
    """None takes the network's own (Table 2) at conversion."""
    dtt: bool = True
    det: bool = True
    units: Literal["raw", "normalised"] = "raw"
    """`raw`: activation units (authors' code, ranked); `normalised`: the layer is divided by V first, so V = 1."""
    det_input: Literal["x", "dm"] = "x"
    """Argument of DET: the current (code), or the change of the pre-fire potential (paper's text)."""
    confidence: SpikeConfidence | None = None
    spike_kind: ClassVar[SpikeKind] = "graded"

    @property
    def operations(self) -> Operations:
        """Those of (M1), (M7), (M8); with a term (M6); of DTT (M3), (M4), (M11); of DET (M5). Units go into the constants."""
        if not (self.dtt or self.det):
            return Operations(additions=3)
        additions, multiplications, transcendentals = 3, 1, 1
        if self.dtt:
            additions, multiplications, transcendentals = additions + 6, multiplications + 5, transcendentals + 2
        if self.det:
            argument = self.det_input == "dm"
            additions, multiplications, transcendentals = additions + argument, multiplications + 2, transcendentals + 1
        return Operations(additions + (self.dtt and self.det), multiplications, transcendentals)

    def adapt(self, calibration: Calibration) -> Self:
        return replace(self, parameters=self.parameters or calibration.adaptive)

    def start(self, current: Tensor, samples: Tensor) -> AdaptiveState:
        zero = torch.zeros_like(current)
        return AdaptiveState(self.rest(current), zero, zero, samples, 0)

    def threshold_at(self, x: Tensor, state: AdaptiveState) -> Tensor:
        """Return theta(t), activation units (M2-M6)."""
        V = self.threshold
        if state.t == 0 or not (self.dtt or self.det):
            return torch.zeros_like(x) + V  # (M2)
        p = self.parameters or CHAIN
        scale = V if self.units == "normalised" else torch.ones_like(V)
        stimulus = torch.zeros_like(x)
        if self.dtt:
            d = (state.v - state.mean) / scale  # (M3)
            stimulus = stimulus + p.tau_mp * dynamic_term(d, V / scale, p)
        if self.det:
            change = x if self.det_input == "x" else x - state.spent
            stimulus = stimulus + p.tau_rd * input_term(change / scale, p)
        return V * torch.sigmoid(stimulus)  # (M6)

    def step(self, current: Tensor, state: AdaptiveState) -> tuple[Emission, AdaptiveState]:
        theta = self.threshold_at(current, state)
        m = state.v + current  # (M1)
        s = (m >= theta).to(m)  # (M7), gamma = 1
        f = self.confidence
        kept = s if f is None or state.t >= f.steps else s * f.mask(s, state.samples, state.t)  # (M9)
        spent = (kept if f is not None and f.reset == "gated" else s) * theta
        v = m - spent  # (M8)
        mean = state.mean + (v - state.mean) / (state.t + 1)  # (M11)
        return Emission(kept * theta), AdaptiveState(v, mean, spent, state.samples, state.t + 1)  # (M10)
