"""Max-pool rules for spikes: lateral inhibition (exact in the mean), gate, and the per-step maximum (methods.md 0.1, B2, B9)."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from msat.errors import unknown_name
from msat.network import MaxPool, Network, pool_before_neuron
from msat.neurons import Emission, Neuron, Operations, Population, SpikeKind


class PoolRule:
    """A point on the max-pool axis: says where the pool stands and what replaces it."""

    def arrange(self, network: Network) -> Network:
        """Return the network with its pools where the rule wants them; the ANN's answers stay."""
        return network

    @abstractmethod
    def population(self, pool: MaxPool) -> "SpikingPool":
        """Return what replaces one max-pool."""


@dataclass(frozen=True)
class LateralInhibition(PoolRule):
    """LIPooling (Li & Zeng 2022): the mean of the output is the maximum of the mean inputs, for any window."""

    def population(self, pool: MaxPool) -> "SpikingPool":
        return LateralInhibitionPool(pool)


@dataclass(frozen=True)
class Gate(PoolRule):
    """Passes the input that has delivered most so far (Rueckauer et al. 2017)."""

    def population(self, pool: MaxPool) -> "SpikingPool":
        return GatePool(pool)


@dataclass(frozen=True)
class StepMaximum(PoolRule):
    """Maximum of each step's outputs: what an unmodified max-pool does; over-estimates (methods.md, P-max-step)."""

    def population(self, pool: MaxPool) -> "SpikingPool":
        return StepMaximumPool(pool)


@dataclass(frozen=True)
class BeforeNeuron(PoolRule):
    """The pool moves in front of the ReLU and acts on currents (LTB, DCGS); where it cannot, it stays behind.

    `exact` pools the accumulated currents (lateral inhibition); otherwise the maximum of each step's currents is taken.
    """

    exact: bool = True

    def arrange(self, network: Network) -> Network:
        return pool_before_neuron(network)

    def population(self, pool: MaxPool) -> "SpikingPool":
        return (LateralInhibitionPool if self.exact else StepMaximumPool)(pool)


POOL_RULES: dict[str, PoolRule] = {
    "inhibition": LateralInhibition(),
    "gate": Gate(),
    "step": StepMaximum(),
    "before": BeforeNeuron(),
    "before-step": BeforeNeuron(exact=False),
}
"""Names of the rules, for methods that take one as a parameter."""


def pool_rule(name: str) -> PoolRule:
    """Return a max-pool rule by name.

    Raises:
        UserError: there is none of that name; says which there are.
    """
    if name not in POOL_RULES:
        raise unknown_name("max-pool rule", name, POOL_RULES)
    return POOL_RULES[name]


def behind(pool: "SpikingPool", source: Population, dims: int) -> "SpikingPool":
    """Return a pool that knows what it pools: of equal unsigned spikes it sends a whole number, of all else anything.

    Args:
        pool: the pool.
        source: the population whose output it pools, with its final thresholds.
        dims: dimensions of one input's neurons.
    """
    if isinstance(source, SpikingPool):
        return replace(pool, spike_kind=source.spike_kind, unit=source.unit)
    if not isinstance(source, Neuron) or source.spike_kind not in {"binary", "count"}:
        return pool
    theta = source.threshold
    if any(n > 1 for n in theta.shape[1 + theta.dim() - dims :]):
        return pool  # a threshold per neuron: differences of spikes are no spikes
    return replace(pool, spike_kind=source.spike_kind, unit=theta if source.spike_kind == "count" else None)


class Windows:
    """The windows of a max-pool laid out side by side; what padding adds never wins."""

    def __init__(self, pool: MaxPool) -> None:
        flat = len(pool.kernel) == 1
        self.pool = pool
        self.kernel = (1, *pool.kernel) if flat else pool.kernel
        self.stride = (1, *pool.stride) if flat else pool.stride
        self.padding = (0, *pool.padding) if flat else pool.padding
        self.dilation = (1, *pool.dilation) if flat else pool.dilation

    def shape(self, x: Tensor) -> tuple[int, ...]:
        """Return the pooled spatial shape for inputs [B, C, ...]."""
        return tuple(self.pool(torch.zeros_like(x[:1, :1])).shape[2:])

    def unfold(self, x: Tensor, fill: float, shape: tuple[int, ...]) -> Tensor:
        """Return inputs [B, C, ...] as [B, C, window size, windows]; padded places hold `fill`, `shape` is the pooled one."""
        image = x.unsqueeze(2) if x.dim() == 3 else x
        simple = self.kernel == self.stride and self.dilation == (1, 1) and self.padding == (0, 0)
        high, wide = (1, *shape)[-2:]
        (kh, kw), (b, c, h, w) = self.kernel, image.shape
        if simple and high * kh <= h and wide * kw <= w:
            tiles = image[:, :, : high * kh, : wide * kw].reshape(b, c, high, kh, wide, kw)
            return tiles.permute(0, 1, 3, 5, 2, 4).reshape(b, c, kh * kw, high * wide)
        need = [
            (n - 1) * s + d * (k - 1) + 1
            for n, s, d, k in zip((high, wide), self.stride, self.dilation, self.kernel, strict=True)
        ]
        right = [n - size - p for n, size, p in zip(need, (h, w), self.padding, strict=True)]
        padded = F.pad(image, (self.padding[1], right[1], self.padding[0], right[0]), value=fill)
        columns = F.unfold(padded, self.kernel, self.dilation, 0, self.stride)
        return columns.view(b, c, kh * kw, high * wide)


class WindowState(NamedTuple):
    """Accumulated input of each place of each window, [B, C, window size, windows]."""

    total: Tensor
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class SpikingPool(Population):
    """A max-pool over time; keeps a separate account for each (window, place), so overlapping windows are exact too."""

    pool: MaxPool
    spike_kind: SpikeKind = "graded"  # type: ignore[misc]  # depends on what is pooled, so it is the instance's
    unit: Tensor | None = None
    """Value of one spike where several may come at once, activation units; None: what is sent is one event."""

    @property
    def windows(self) -> Windows:
        return Windows(self.pool)

    def start(self, current: Tensor, samples: Tensor) -> Any:
        windows = self.windows
        shape = windows.shape(current)
        # Places added by padding start at minus infinity and stay there: they never hold the maximum.
        return WindowState(windows.unfold(torch.zeros_like(current), float("-inf"), shape), shape)

    def arriving(self, current: Tensor) -> Tensor:
        """Return what arrives, [B, C, ...]: numbers of spikes where they are counted, so that no rounding sends a residue."""
        return current if self.unit is None else (current / self.unit).round()

    def sending(self, pooled: Tensor) -> Emission:
        """Return what is sent for a pooled value [B, C, ...] of what arrived."""
        return Emission(pooled) if self.unit is None else Emission(pooled * self.unit, pooled)


@dataclass(frozen=True, eq=False)
class LateralInhibitionPool(SpikingPool):
    """S += x; out = max S; S -= out for the whole window (methods.md B9): sum of out = max of the summed inputs."""

    def step(self, current: Tensor, state: WindowState) -> tuple[Emission, WindowState]:
        total = state.total + self.windows.unfold(self.arriving(current), 0.0, state.shape)  # (1)
        out = total.amax(2, keepdim=True)  # (2)
        left = total - out  # (3)
        return self.sending(out.view(*current.shape[:2], *state.shape)), WindowState(left, state.shape)


@dataclass(frozen=True, eq=False)
class GatePool(SpikingPool):
    """Only the input with the largest total so far passes; of tied ones the largest of this step (methods.md B2, B9)."""

    operations = Operations(additions=4)

    def step(self, current: Tensor, state: WindowState) -> tuple[Emission, WindowState]:
        x = self.windows.unfold(self.arriving(current), 0.0, state.shape)
        total = state.total + x
        leads = total == total.amax(2, keepdim=True)
        out = torch.where(leads, x, float("-inf")).amax(2, keepdim=True)
        return self.sending(out.view(*current.shape[:2], *state.shape)), WindowState(total, state.shape)


@dataclass(frozen=True, eq=False)
class StepMaximumPool(SpikingPool):
    """The maximum over the window at each step, without memory."""

    operations = Operations(additions=1)

    def start(self, current: Tensor, samples: Tensor) -> tuple[()]:
        return ()

    def step(self, current: Tensor, state: tuple[()]) -> tuple[Emission, tuple[()]]:
        return self.sending(self.pool(self.arriving(current))), state
