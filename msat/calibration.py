"""Statistics of a network's activations over calibration inputs: exact maxima, quantiles and moments per layer, channel or neuron."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from msat.errors import UserError
from msat.network import Network, Relu, Stage
from msat.task import CHAIN, AdaptiveParameters

Granularity = Literal["layer", "channel", "neuron"]


@dataclass(frozen=True)
class Site:
    """What calibration saw at one ReLU."""

    position: int
    stage: Stage
    z: Tensor
    """Pre-activations [N, ...]."""
    a: Tensor
    """Activations [N, ...]."""


@dataclass(frozen=True)
class Calibration:
    """All that a conversion may look at: the ANN, training inputs without labels, the nominal T, and a seed."""

    network: Network
    inputs: Tensor
    """Prepared training inputs [N, ...], not augmented."""
    steps: int
    """Nominal T; only methods that declare `recalibrate_per_T` may read it."""
    seed: int = 0
    adaptive: AdaptiveParameters = CHAIN
    """MSAT's parameters of Table 2 for this network."""

    def sites(self) -> Iterator[Site]:
        """Yield every site in execution order with its activations over all calibration inputs.

        Raises:
            UserError: a site never fires on the calibration inputs, so that its threshold would be zero.
        """
        for position, current, output in self.network.trace(self.inputs):
            stage = self.network.stages[position]
            if isinstance(stage.rule, Relu):
                if not output.max() > 0:
                    raise UserError(
                        f"site '{stage.name}' never fires on the {len(self.inputs)} calibration inputs, so its threshold would be 0;"
                        " use more calibration inputs or a trained network."
                    )
                yield Site(position, stage, current, output)

    def per_site(self, rule: Callable[[Site], Tensor]) -> list[Tensor]:
        """Return what a rule makes of each site, in execution order."""
        return [rule(site) for site in self.sites()]


def grouped(values: Tensor, per: Granularity) -> Tensor:
    """Return values [N, ...] as [groups, samples], one row for the layer, each channel, or each neuron."""
    if per == "layer":
        return values.reshape(1, -1)
    if per == "channel":
        return values.transpose(0, 1).reshape(values.shape[1], -1)
    return values.flatten(1).T


def spread(statistic: Tensor, values: Tensor, per: Granularity) -> Tensor:
    """Return a statistic [groups] in a shape that broadcasts over one batch of `values`: [], [C, 1, ...] or [C, ...]."""
    if per == "layer":
        return statistic.reshape(())
    if per == "channel":
        return statistic.view(-1, *[1] * (values.dim() - 2))
    return statistic.view(values.shape[1:])


def maximum(values: Tensor, per: Granularity = "layer") -> Tensor:
    """Return the exact maximum."""
    return spread(grouped(values, per).amax(1), values, per)


def quantile(values: Tensor, q: float, per: Granularity = "layer") -> Tensor:
    """Return the q-quantile, q in [0, 1], with linear interpolation; exact for any number of values.

    torch.quantile refuses more than 16 M values; the two order statistics it interpolates between are selected instead.
    """
    rows = grouped(values, per)
    place = q * (rows.shape[1] - 1)
    low = int(place)
    below = rows.kthvalue(low + 1, dim=1).values
    above = rows.kthvalue(min(low + 2, rows.shape[1]), dim=1).values
    return spread(below + (above - below) * (place - low), values, per)


def with_floor(threshold: Tensor) -> Tensor:
    """Give channels and neurons that never fired the layer's largest threshold instead of zero (methods.md B1, guard)."""
    return torch.where(threshold > 0, threshold, threshold.max())
