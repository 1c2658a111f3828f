"""Shared by all tests: one thread, tiny networks, and traces of a single neuron."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from msat.neurons import Population

torch.set_num_threads(1)


def run_neuron(neuron: Population, currents: Sequence[float]) -> dict[str, list[float]]:
    """Feed one neuron a sequence of currents in float64; return outputs, spikes and potentials step by step."""
    x = torch.tensor(currents, dtype=torch.float64).view(-1, 1, 1)
    state: Any = neuron.start(x[0], torch.zeros(1, dtype=torch.int64))
    trace: dict[str, list[float]] = {"o": [], "s": [], "v": []}
    for current in x:
        emission, state = neuron.step(current, state)
        trace["o"].append(emission.output.item())
        trace["s"].append(emission.spikes().item())
        if hasattr(state, "v"):
            trace["v"].append(state.v.item())
    return trace


def f64(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


class SmallNet(nn.Module):
    """Two convolutions with a shortcut, a 3/2 max-pool, and a classifier; one ReLU module called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 6, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1, groups=2, bias=False)
        self.norm2 = nn.BatchNorm2d(6)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(6 * 9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm1(self.conv1(x)))
        x = self.relu(self.norm2(self.conv2(x)) + x)
        return self.fc(self.drop(self.pool(x).flatten(1)))


def settle_norms(model: nn.Module, inputs: Tensor) -> nn.Module:
    """Give batch normalisations real statistics by a few forward passes in training mode."""
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(inputs)
    return model.eval()


@pytest.fixture
def small() -> tuple[nn.Module, Tensor]:
    """A small residual network with max-pool, and 24 inputs [24, 2, 6, 6]."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        inputs = torch.randn(24, 2, 6, 6)
        return settle_norms(SmallNet(), inputs), inputs
