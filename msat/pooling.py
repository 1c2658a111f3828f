"""Max-pool rules for spikes: lateral inhibition (exact in the mean), gate, and the per-step maximum (methods.md 0.1, B2, B9)."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from msat.errors import unknown_name
from msat.network import MaxPool, Network, pool_before_neuron
from msat.neurons import Emission, Operations, Population, SpikeKind


class PoolRule:
    """A point on the max-pool axis: says where the pool stands and what replaces it."""

    def arrange(self, network: Network) -> Network:
        """Return the network with its pools where the rule wants them; the ANN's answers stay."""
        return network

    @abstractmethod
    def population(self, pool: MaxPool, kind: SpikeKind) -> Population:
        """Return what replaces one max-pool; `kind` is what the spikes it receives carry, "graded" for currents."""


@dataclass(frozen=True)
class LateralInhibition(PoolRule):
    """LIPooling (Li & Zeng 2022): the mean of the output is the maximum of the mean inputs, for any window."""

    def population(self, pool: MaxPool, kind: SpikeKind) -> Population:
        return LateralInhibitionPool(pool, pooled_kind(kind))


@dataclass(frozen=True)
class Gate(PoolRule):
    """Passes the input that has delivered most so far (Rueckauer et al. 2017)."""

    def population(self, pool: MaxPool, kind: SpikeKind) -> Population:
        return GatePool(pool, pooled_kind(kind))


@dataclass(frozen=True)
class StepMaximum(PoolRule):
    """Maximum of each step's outputs: what an unmodified max-pool does; over-estimates (methods.md, P-max-step)."""

    def population(self, pool: MaxPool, kind: SpikeKind) -> Population:
        return StepMaximumPool(pool, pooled_kind(kind))


@dataclass(frozen=True)
class BeforeNeuron(PoolRule):
    """The pool moves in front of the ReLU and acts on currents (LTB, DCGS); where it cannot, it stays behind.

    `exact` pools the accumulated currents (lateral inhibition); otherwise the maximum of each step's currents is taken.
    """

    exact: bool = True

    def arrange(self, network: Network) -> Network:
        return pool_before_neuron(network)

    def population(self, pool: MaxPool, kind: SpikeKind) -> Population:
        return (LateralInhibitionPool if self.exact else StepMaximumPool)(pool, pooled_kind(kind))


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


def pooled_kind(kind: SpikeKind) -> SpikeKind:
    """Return what a pool's output carries: of equal unsigned spikes a whole number of them, of all else anything."""
    return kind if kind in {"binary", "count"} else "graded"


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
    operations: ClassVar[Operations] = Operations(additions=3)

    @property
    def windows(self) -> Windows:
        return Windows(self.pool)

    def start(self, current: Tensor, samples: Tensor) -> Any:
        windows = self.windows
        shape = windows.shape(current)
        # Places added by padding start at minus infinity and stay there: they never hold the maximum.
        return WindowState(windows.unfold(torch.zeros_like(current), float("-inf"), shape), shape)


@dataclass(frozen=True, eq=False)
class LateralInhibitionPool(SpikingPool):
    """S += x; out = max S; S -= out for the whole window (methods.md B9): sum of out = max of the summed inputs."""

    def step(self, current: Tensor, state: WindowState) -> tuple[Emission, WindowState]:
        total = state.total + self.windows.unfold(current, 0.0, state.shape)  # (1)
        out = total.amax(2, keepdim=True)  # (2)
        left = total - out  # (3)
        return Emission(out.view(*current.shape[:2], *state.shape)), WindowState(left, state.shape)


@dataclass(frozen=True, eq=False)
class GatePool(SpikingPool):
    """Only the input with the largest total so far passes; ties pass one of them."""

    def step(self, current: Tensor, state: WindowState) -> tuple[Emission, WindowState]:
        x = self.windows.unfold(current, 0.0, state.shape)
        total = state.total + x
        out = x.gather(2, total.argmax(2, keepdim=True))
        return Emission(out.view(*current.shape[:2], *state.shape)), WindowState(total, state.shape)


@dataclass(frozen=True, eq=False)
class StepMaximumPool(SpikingPool):
    """The maximum over the window at each step, without memory."""

    def start(self, current: Tensor, samples: Tensor) -> tuple[()]:
        return ()

    def step(self, current: Tensor, state: tuple[()]) -> tuple[Emission, tuple[()]]:
        return Emission(self.pool(current)), state
