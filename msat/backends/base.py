"""The backend contract: traffic in -> traffic out for one stage and one chunk of time."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from msat.network import SpikingNetwork
from msat.neurons import Emission


class Traffic(ABC):
    """What one population sent during a chunk of T steps to B inputs."""

    steps: int
    """T."""

    @abstractmethod
    def output(self) -> Tensor:
        """Return o(t): [T, B, ...], activation units."""

    @abstractmethod
    def spikes(self) -> Tensor:
        """Return the spikes of each neuron at each step, as counts: [T, B, ...]."""

    @abstractmethod
    def weighted(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return, for each step, sums over batch and neurons of weight x spikes and weight x [sent anything]: float64 [T] each.

        `weight` has the shape of one input's neurons.
        """

    @abstractmethod
    def totals(self, begin: int, end: int, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return, for each neuron [B, ...], sums over the chunk's steps begin .. end - 1 of weight(t) x o(t) and of |spikes|.

        `weight`: float32 [T].
        """


class DenseTraffic(Traffic):
    """Traffic held as tensors."""

    def __init__(self, emission: Emission) -> None:
        self.emission, self.steps = emission, len(emission.output)

    def output(self) -> Tensor:
        return self.emission.output

    def spikes(self) -> Tensor:
        return self.emission.spikes()

    def weighted(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        spikes, events = self._batch_sums
        weights = weight.flatten().double()
        total = spikes @ weights
        return total, total if events is spikes else events @ weights

    def totals(self, begin: int, end: int, weight: Tensor) -> tuple[Tensor, Tensor]:
        output, spikes = self.output()[begin:end], self.spikes()[begin:end]
        return torch.tensordot(weight[begin:end].to(output), output, 1), spikes.abs().sum(0)

    @cached_property
    def _batch_sums(self) -> tuple[Tensor, Tensor]:
        """Spikes and events of each neuron at each step over the batch: float64 [T, neurons], whole numbers."""
        output, spikes = self.emission
        if spikes is None:
            total = (output != 0).sum(1).flatten(1).double()
            return total, total
        return spikes.abs().sum(1).flatten(1).double(), (spikes != 0).sum(1).flatten(1).double()


class Session(ABC):
    """A backend with one network's weights in place."""

    def __init__(self, network: SpikingNetwork) -> None:
        self.network = network

    @abstractmethod
    def chunk_steps(self, batch: int) -> int:
        """Return how many steps to run at once for a batch of this size."""

    @abstractmethod
    def advance(
        self, position: int, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        """Run the stage at `position` for steps first+1 .. first+count.

        Args:
            position: the stage.
            sources: traffic of its sources during these steps.
            state: what the previous chunk returned; None before step 1.
            samples: numbers of the inputs, int64 [B].
            first: steps already done.
            count: steps to do.

        Returns:
            What the stage sent, and the state to pass on.
        """

    def constant(self, value: Tensor, first: int, count: int) -> Traffic:
        """Return a constant [B, ...] of the front as traffic: at every step, or at step 1 only for differential coding."""
        values = value.unsqueeze(0).expand(count, *value.shape)
        if self.network.constant_once:
            values = torch.zeros_like(values)
            if first == 0:
                values[0] = value
        return DenseTraffic(Emission(values))

    def close_batch(self) -> None:
        """Forget what was computed once for the batch."""
        return


class Backend(ABC):
    """A way to simulate."""

    name: str

    @abstractmethod
    def open(self, network: SpikingNetwork) -> Session:
        """Return a session for one converted network."""
