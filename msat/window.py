"""Neurons that read a whole run before they send (not causal): currents are summed first, then T steps are sent."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from msat.neurons import Emission, Membrane, Neuron


@dataclass(frozen=True, eq=False)
class WindowNeuron(Neuron):
    """A neuron that needs nothing of a run's currents but their sum, and so has two phases: it reads, then it sends."""

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

    def start(self, current: Tensor, samples: Tensor) -> Membrane:
        return Membrane(self.rest(current))

    def step(self, current: Tensor, state: Membrane) -> tuple[Emission, Membrane]:
        emission, state = self.scan(current.unsqueeze(0), state)
        return Emission(emission.output[0]), state

    def scan(self, currents: Tensor, state: Membrane) -> tuple[Emission, Membrane]:
        """Read and send a run [T, B, ...]; `v` after it is the charge that was not sent."""
        charge = state.v + currents.sum(0)
        sending, outputs = self.read(charge, len(currents)), []
        for _ in currents:
            emission, sending = self.send(sending)
            outputs.append(emission.output)
        output = torch.stack(outputs)
        return Emission(output), Membrane(charge - output.sum(0))
