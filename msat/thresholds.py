"""Threshold rules: calibration statistics -> one threshold per layer, channel or neuron, in activation units."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from msat.calibration import Calibration, Granularity, Site, grouped, maximum, quantile, spread, with_floor
from msat.errors import UserError


class ThresholdRule(ABC):
    """A point on the threshold axis."""

    def fit(self, calibration: Calibration) -> list[Tensor]:
        """Return the threshold of each site in execution order; each broadcasts over one input's neurons."""
        return calibration.per_site(lambda site: self.threshold(site, calibration.steps))

    @abstractmethod
    def threshold(self, site: Site, steps: int) -> Tensor:
        """Return one site's threshold; `steps` is the nominal T."""


@dataclass(frozen=True)
class Maximum(ThresholdRule):
    """theta = maximum activation (Diehl et al. 2015; methods.md B1)."""

    per: Granularity = "layer"

    def threshold(self, site: Site, steps: int) -> Tensor:
        return with_floor(maximum(site.a, self.per))


@dataclass(frozen=True)
class Percentile(ThresholdRule):
    """theta = q-th percentile of the activations (Rueckauer et al. 2017; methods.md B2), zeros left out as in the original."""

    q: float = 99.9
    nonzero: bool = True

    def threshold(self, site: Site, steps: int) -> Tensor:
        values = site.a[site.a > 0] if self.nonzero else site.a
        theta = quantile(values.reshape(-1, 1), self.q / 100)
        if not theta > 0:
            raise UserError(
                f"the {self.q:g}th percentile of site '{site.stage.name}' is not positive, so it cannot be a threshold; take a higher"
                " q or nonzero=True."
            )
        return theta


@dataclass(frozen=True)
class Fraction(ThresholdRule):
    """theta = kappa times another rule's threshold (MSAT Fig. 4; methods.md B3)."""

    kappa: float
    of: ThresholdRule = Maximum()

    def fit(self, calibration: Calibration) -> list[Tensor]:
        return [self.kappa * threshold for threshold in self.of.fit(calibration)]

    def threshold(self, site: Site, steps: int) -> Tensor:
        return self.kappa * self.of.threshold(site, steps)


@dataclass(frozen=True)
class SquaredError(ThresholdRule):
    """theta that minimises the squared error of T-step quantisation (MMSE; Li et al. 2021, methods.md B8).

    Candidates are max (1 - 0.01 i), i = 0..94; the first strict minimum wins. With `cap` > 1 a neuron may send that many
    spikes a step (AdaFire; methods.md D3).
    """

    per: Granularity = "layer"
    cap: int = 1

    def threshold(self, site: Site, steps: int) -> Tensor:
        rows = grouped(site.a, self.per)
        top = rows.amax(1)
        if self.per == "layer":
            rows = rows[rows > 0].view(1, -1)  # a silent neuron has no error under any threshold
        moments = Moments(rows)
        best, best_error = top.clone(), torch.full_like(top, float("inf"), dtype=torch.float64)
        for i in range(95):
            theta = top * (1 - 0.01 * i)
            error = moments.quantisation_error(theta.clamp(min=1e-12), steps, self.cap)
            better = error < best_error
            best, best_error = torch.where(better, theta, best), torch.where(better, error, best_error)
        return with_floor(spread(best, site.a, self.per))


def quantised(a: Tensor, theta: Tensor, steps: int, cap: int = 1) -> Tensor:
    """Return theta/T floor(T clip(a/theta, 0, cap)): the mean output of an IF neuron with constant input a."""
    return theta / steps * torch.floor((a / theta).clamp(0, cap) * steps)


def quantisation_error(rows: Tensor, theta: Tensor, steps: int, cap: int = 1) -> Tensor:
    """Return the mean squared error of `quantised` for each row [groups, samples] with thresholds [groups, 1]."""
    return (rows - quantised(rows, theta, steps, cap)).square().mean(1)


class Moments:
    """Activations [groups, samples] sorted once, with running sums, so that a threshold's error needs one look at each level."""

    def __init__(self, rows: Tensor) -> None:
        self.sorted = rows.sort(1).values.contiguous()
        start = rows.new_zeros(len(rows), 1, dtype=torch.float64)
        self.sums = torch.cat([start, self.sorted.cumsum(1, dtype=torch.float64)], 1)
        self.squares = self.sorted.square().sum(1, dtype=torch.float64)

    def quantisation_error(self, theta: Tensor, steps: int, cap: int = 1) -> Tensor:
        """Return the sum of squared differences to `quantised` for each row's threshold [groups]: float64 [groups].

        All values from level j = theta j / T on are rounded down to at least j; adding up what each level adds to the
        quantised value q gives sum (a - q)^2 = sum a^2 + sum_j (q_j^2 - q_(j-1)^2) n_j - 2 theta/T sum_j S_j, where n_j
        values of sum S_j lie at or above level j.
        """
        unit = theta.unsqueeze(1) / steps
        j = torch.arange(1, cap * steps + 1, device=theta.device)
        first = torch.searchsorted(self.sorted, unit * j)
        above = self.sums[:, -1:] - self.sums.gather(1, first)
        count = self.sorted.shape[1] - first
        width = unit.double()
        return self.squares + (width.square() * (2 * j - 1) * count - 2 * width * above).sum(1)
