"""Networks cut at their nonlinearities: a constant front and stages of linear synapses, as an ANN and as spiking populations."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from msat.neurons import Population


@dataclass(frozen=True)
class Relu:
    """A site: max(z, 0), or min(max(z, 0), cap) for ReLU6."""

    cap: float | None = None

    def __call__(self, z: Tensor) -> Tensor:
        return z.clamp(0.0, self.cap)


@dataclass(frozen=True)
class MaxPool:
    """A max-pool over windows of 1 or 2 spatial dimensions."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil: bool = False

    def __call__(self, z: Tensor) -> Tensor:
        pool = F.max_pool1d if len(self.kernel) == 1 else F.max_pool2d
        return pool(z, self.kernel, self.stride, self.padding, self.dilation, self.ceil)


@dataclass(frozen=True)
class Readout:
    """The network's output, which does not spike."""

    def __call__(self, z: Tensor) -> Tensor:
        return z


Nonlinearity = Relu | MaxPool | Readout


@dataclass(frozen=True)
class Stage:
    """One nonlinearity and the linear expression over earlier outputs that feeds it.

    `sources` are the positions of earlier stages; -1-k stands for the k-th constant of the front. `synapses` takes their
    outputs [B, ...] in that order and returns the current [B, ...], bias included.
    """

    name: str
    sources: tuple[int, ...]
    synapses: nn.Module
    rule: Nonlinearity

    @property
    def constant(self) -> bool:
        """True when no spike reaches the stage, so that its current is the same at every step."""
        return all(source < 0 for source in self.sources)


class Passed(nn.Module):
    """A front that was run beforehand."""

    def forward(self, constant: Tensor) -> tuple[Tensor]:
        """Return the input as the only constant."""
        return (constant,)


@dataclass(frozen=True)
class Network:
    """A trained ANN without dropout and batch normalisation, cut into stages in execution order; the last is the readout."""

    front: nn.Module
    """What does not depend on a site (an identity, a whole BiLSTM): input [B, ...] -> tuple of constants [B, ...]."""
    stages: tuple[Stage, ...]
    example: Tensor
    """One prepared input [1, ...], for shapes."""
    done_macs: int = 0
    """Multiply-accumulates that were spent before the network's inputs were there (see `after_front`)."""

    @property
    def sites(self) -> tuple[int, ...]:
        """Positions of the ReLU stages, in execution order."""
        return tuple(i for i, stage in enumerate(self.stages) if isinstance(stage.rule, Relu))

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the ANN's logits [B, classes] for prepared inputs [B, ...]."""
        *_, (_, _, output) = self.trace(inputs)
        return output

    @torch.no_grad()
    def trace(
        self, inputs: Tensor, batch: int = 64, activate: Callable[[int, Tensor], Tensor] | None = None
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield (position, current z, output) of every stage over all inputs [N, ...], freeing what no later stage reads.

        `activate` (position, z) -> output stands in for the stages' own nonlinearities: clipping, quantising.
        """
        constants = _concatenate([tuple(self.front(part)) for part in inputs.split(batch)])
        outputs: dict[int, Tensor] = {-1 - k: constant for k, constant in enumerate(constants)}
        last = last_use(self.stages)
        for position, stage in enumerate(self.stages):
            parts = zip(*(outputs[source].split(batch) for source in stage.sources), strict=True)
            current = torch.cat([stage.synapses(*part) for part in parts])
            outputs[position] = stage.rule(current) if activate is None else activate(position, current)
            yield position, current, outputs[position]
            outputs = {key: value for key, value in outputs.items() if last.get(key, -1) > position}

    def after_front(self, macs: int) -> "Network":
        """Return the network behind its front: it takes the front's only constant, which cost `macs` to compute, as input."""
        constant = self.front(self.example)[0]
        return replace(self, front=Passed(), example=constant, done_macs=macs)

    def shapes(self) -> list[tuple[int, ...]]:
        """Return the shape of every stage's current for one input, without the batch dimension."""
        return [tuple(current.shape[1:]) for _, current, _ in self.trace(self.example)]

    def to(self, device: torch.device | str) -> "Network":
        """Return the network with its weights on a device."""
        stages = tuple(replace(stage, synapses=stage.synapses.to(device)) for stage in self.stages)
        return replace(self, front=self.front.to(device), stages=stages, example=self.example.to(device))


@dataclass(frozen=True)
class SpikingStage:
    """A stage whose nonlinearity is a population of spiking neurons, a spiking pool, or a readout."""

    stage: Stage
    population: "Population"
    offset: Tensor | None = None
    """Current added at every step (input shift, bias correction); broadcasts over [B, ...]."""


@dataclass(frozen=True)
class SpikingNetwork:
    """A converted network: what `simulate` runs. Immutable; a correction returns a new one."""

    network: Network
    stages: tuple[SpikingStage, ...]
    constant_once: bool = False
    """True for differential coding: constants arrive at step 1 only, later steps carry no change."""
    warm_up: "WarmUp | None" = None

    def with_stage(self, position: int, **changes: Any) -> "SpikingNetwork":
        """Return the network with fields of one spiking stage replaced."""
        stages = list(self.stages)
        stages[position] = replace(stages[position], **changes)
        return replace(self, stages=tuple(stages))

    def prefix(self, position: int) -> "SpikingNetwork":
        """Return the network cut behind a stage: simulating it costs only what that stage needs."""
        return replace(self, stages=self.stages[: position + 1])


class WarmUp(ABC):
    """Two-pass initial potentials; a part of the initial-potential axis that needs the test input itself (no labels)."""

    neurons: ClassVar[tuple[type, ...]]
    """The neurons that take a start state from it."""

    @abstractmethod
    def states(
        self, network: SpikingNetwork, inputs: Tensor, samples: Tensor, observe: Callable[[Any], None]
    ) -> list[Any]:
        """Return the start state of every stage for prepared inputs [B, ...] numbered `samples` [B]; None for the default.

        `observe` is shown every chunk (`simulation.Chunk`) whose spikes cross synapses: the first pass costs, too.
        """

    @abstractmethod
    def steps(self, layers: int) -> int:
        """Return how many steps pass before the first output step."""

    @property
    @abstractmethod
    def neuron_steps(self) -> int:
        """How many steps each neuron is advanced before the first output step."""


def last_use(stages: Sequence[Stage]) -> dict[int, int]:
    """Return, for every source, the position of the last stage that reads it; the last stage's own output is kept."""
    last = {source: position for position, stage in enumerate(stages) for source in stage.sources}
    last[len(stages) - 1] = len(stages)
    return last


def pool_before_neuron(network: Network) -> Network:
    """Swap ReLU and max-pool where the pool is the ReLU's only reader; the ANN's answers do not change (methods.md D10).

    The pool then acts on currents and a site of the same name follows it.
    """
    stages = list(network.stages)
    for position, stage in enumerate(stages):
        if not isinstance(stage.rule, MaxPool) or len(stage.sources) != 1:
            continue
        source = stage.sources[0]
        readers = [s for s in stages if source in s.sources]
        plain = isinstance(stage.synapses, nn.Identity)
        if source < 0 or len(readers) > 1 or not plain or not isinstance(stages[source].rule, Relu):
            continue
        site = stages[source]
        stages[source] = replace(site, name=stage.name, rule=stage.rule)
        stages[position] = replace(stage, name=site.name, rule=site.rule)
    return replace(network, stages=tuple(stages))


def _concatenate(parts: list[tuple[Tensor, ...]]) -> list[Tensor]:
    return [torch.cat(column) for column in zip(*parts, strict=True)]
