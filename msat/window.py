"""Neurons that read a whole run before they send (not causal): currents are summed first, then T steps are sent."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from msat.neurons import Emission, Neuron


@dataclass(frozen=True, eq=False)
class WindowNeuron(Neuron):
    """A neuron that needs nothing of a run's currents but their sum, and so has two phases: it reads, then it sends.

    It keeps no state: another run begins at v(0) again.
    """

    window: ClassVar[bool] = True

    @abstractmethod
    def read(self, charge: Tensor, steps: int) -> Any:
        """Return the state in which sending begins.

        Args:
            charge: v(0) and the currents of all steps, summed: [B, ...], activation units x steps.
            steps: T, the steps that were read and will be sent.
        """

    @abstractmethod
    def send(self, state: Any) -> tuple[Emission, Any]:
        """Return what one step sends, [B, ...], and the state after it."""

    def start(self, current: Tensor, samples: Tensor) -> tuple[()]:
        return ()

    def step(self, current: Tensor, state: tuple[()]) -> tuple[Emission, tuple[()]]:
        (output, events), state = self.scan(current.unsqueeze(0), state)
        return Emission(output[0], None if events is None else events[0]), state

    def scan(self, currents: Tensor, state: tuple[()]) -> tuple[Emission, tuple[()]]:
        """Read and send a run [T, B, ...]."""
        charge = self.rest(currents[0]) + currents.sum(0)
        emission, _ = Sending(self).scan(currents, self.read(charge, len(currents)))
        return emission, state


@dataclass(frozen=True, eq=False)
class Sending(Neuron):
    """The second phase of a window neuron by itself: its currents are not read."""

    neuron: WindowNeuron

    def start(self, current: Tensor, samples: Tensor) -> Any:
        """Return the state after one step of this current."""
        return self.neuron.read(self.neuron.rest(current) + current, 1)

    def step(self, current: Tensor, state: Any) -> tuple[Emission, Any]:
        return self.neuron.send(state)
