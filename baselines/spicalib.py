"""SpiCalib: negative spikes cancel those of neurons that have fallen silent (Li, He et al. 2022; methods.md C4)."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from msat.calibration import Calibration
from msat.method import Axes, method
from msat.neurons import Emission, IntegrateAndFire, Neuron, Operations, SpikeKind
from msat.thresholds import Percentile


class CalibratorState(NamedTuple):
    inner: Any
    last: Tensor
    """Step of the last spike, counted from 0."""
    interval: Tensor
    """g: mean interval between spikes, steps."""
    firings: Tensor
    """n: steps with a spike so far."""
    total: Tensor
    """S: running sum of spikes after the cancellation, before the suppression."""
    t: int

    @property
    def v(self) -> Tensor:
        """Membrane potential of the filtered neuron; cancelled spikes are not refunded."""
        potential: Tensor = self.inner.v
        return potential


@dataclass(frozen=True, eq=False)
class SpikeCalibrator(Neuron):
    """A filter behind a neuron; acts on spike counts, before they are multiplied with the threshold.

    As in the code, a silent neuron sends -1 at every further step until S <= -1, and a neuron that never fires lets S
    fall without bound, which suppresses its first true spikes.
    """

    inner: Neuron = field(default_factory=IntegrateAndFire)
    allowance: int = 5
    """A: steps beyond the mean interval after which a neuron counts as silent; 0 disables the filter."""
    spike_kind: ClassVar[SpikeKind] = "signed"

    @property
    def operations(self) -> Operations:
        """The neuron's own, and those of (1) to (4); the mean interval divides by each neuron's number of spikes."""
        own = self.inner.operations
        if not self.allowance:
            return own
        return Operations(own.additions + 11, own.multiplications + 1, own.transcendentals + 1)

    def adapt(self, calibration: Calibration) -> Self:
        return replace(self, inner=self.inner.adapt(calibration))

    def bind(self, threshold: Tensor, initial: Tensor) -> Self:
        return replace(self, threshold=threshold, initial=initial, inner=self.inner.bind(threshold, initial))

    def start(self, current: Tensor, samples: Tensor) -> CalibratorState:
        zero = torch.zeros_like(current)
        return CalibratorState(self.inner.start(current, samples), zero, zero, zero, zero, 0)

    def step(self, current: Tensor, state: CalibratorState) -> tuple[Emission, CalibratorState]:
        emission, inner = self.inner.step(current, state.inner)
        if not self.allowance:
            return emission, state._replace(inner=inner)
        x, t, total = emission.spikes(), state.t, state.total
        fired = x > 0
        n = state.firings + fired
        g = torch.where(fired, (t - state.last + state.interval * (n - 1)) / n.clamp(min=1), state.interval)  # (1)
        last = torch.where(fired, t, state.last)
        x = x - (t - last > g + self.allowance).to(x)  # (2)
        total = total + x  # (3)
        x = torch.where(total <= -1, 0, x)  # (4)
        return Emission(self.threshold * x, x.abs()), CalibratorState(inner, last, g, n, total, t + 1)


@method(
    "Li, He et al. 2022, arXiv 2207.02702",
    reconstruction="the neuron and threshold under the filter are ours to choose: integrate-and-fire at the 99.9th percentile.",
)
def spicalib(allowance: int = 5, percentile: float = 99.9) -> Axes:
    """SpiCalib: negative spikes for neurons that fall silent."""
    return Axes(threshold=Percentile(percentile), neuron=SpikeCalibrator(allowance=allowance))
