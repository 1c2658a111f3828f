"""Neurons written as kernels from their PyTorch step: equal to it, refused where they are not arithmetic on one neuron."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines import constant
from baselines.bsnn import Bistable
from baselines.srp import MaskedIntegrateAndFire
from msat.backends import Backend, Step
from msat.backends.events import Events, EventsSession
from msat.backends.events_record import Unwritable
from msat.backends.events_stages import FusedRunner, Runner, WrittenRunner
from msat.backends.events_torch import TorchRunner
from msat.backends.events_write import WrittenNeuron
from msat.calibration import Calibration
from msat.conversion import convert
from msat.errors import UserError
from msat.network import SpikingNetwork
from msat.neurons import Emission, IntegrateAndFire, Membrane, Neuron
from msat.signed import SignedIntegrateAndFire
from msat.tracing import trace

STEPS, INPUTS = 40, 5
"""More steps than a chunk has, and than are recorded ahead."""


class Trained(NamedTuple):
    v: Tensor
    trace: Tensor
    t: int


@dataclass(frozen=True, eq=False)
class Everything(Neuron):
    """A rule that uses whatever a kernel can do."""

    leak: float = 0.9

    def start(self, current: Tensor, samples: Tensor) -> Trained:
        return Trained(self.rest(current), torch.tensor(0.0), 0)

    def step(self, current: Tensor, state: Trained) -> tuple[Emission, Trained]:
        m = self.leak * state.v + current
        if state.t % 7 == 6:
            return Emission(torch.zeros_like(m), torch.zeros_like(m)), Trained(m, state.trace, state.t + 1)
        soft = F.softplus(m) + torch.sigmoid(-m) - torch.exp(-m.abs()) + F.relu(m).sqrt()
        theta = self.threshold * (1 + 0.1 * state.trace / (state.t + 1)) + 0.01 * soft.clamp(max=2)
        number = torch.floor(m / theta).clamp(-1, 3)
        number = torch.where((m < 0) & (state.trace <= 0), 0, number)
        number = torch.maximum(number, torch.round(-state.trace)) % 8
        out = torch.minimum(number, number.new_zeros(number.shape) + 2).trunc()
        fired = ~(out == 0)
        path = state.trace + fired - (1 - fired.float()) * 0.1
        return Emission(out * theta, out.abs()), Trained(m - out * theta, path, state.t + 1)


@dataclass(frozen=True, eq=False)
class Rivals(Neuron):
    """A rule among neighbours: no neuron's own arithmetic."""

    def start(self, current: Tensor, samples: Tensor) -> Membrane:
        return Membrane(self.rest(current))

    def step(self, current: Tensor, state: Membrane) -> tuple[Emission, Membrane]:
        m = state.v + current
        s = ((m >= self.threshold) & (m == m.amax(1, keepdim=True))).to(m)
        return Emission(self.threshold * s), Membrane(m - self.threshold * s)


class Branching(Rivals):
    """A rule whose course depends on data."""

    def step(self, current: Tensor, state: Membrane) -> tuple[Emission, Membrane]:
        m = state.v + current
        s = (m >= self.threshold).to(m) if bool((m > 0).any()) else torch.zeros_like(m)
        return Emission(self.threshold * s), Membrane(m - self.threshold * s)


@dataclass(frozen=True, eq=False)
class Late(Neuron):
    """A rule that begins to look at its neighbours late."""

    def start(self, current: Tensor, samples: Tensor) -> Trained:
        return Trained(self.rest(current), torch.zeros_like(current), 0)

    def step(self, current: Tensor, state: Trained) -> tuple[Emission, Trained]:
        m = state.v + (current if state.t < STEPS - 2 else current.flip(1))
        s = (m >= self.threshold).to(m)
        return Emission(self.threshold * s), Trained(m - self.threshold * s, state.trace, state.t + 1)


def site(neuron: Neuron, theta: Tensor) -> tuple[SpikingNetwork, Tensor]:
    """Return a network whose first site has this neuron and a constant current, and its inputs."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Conv2d(3, 19, 3), nn.ReLU(), nn.Flatten(), nn.Linear(19 * 16, 4))
        inputs = torch.randn(INPUTS, 3, 6, 6)
    with torch.no_grad():
        spiking = convert(constant.maximum(), Calibration(trace(model, inputs), inputs, STEPS))
    return spiking.with_stage(0, population=neuron.bind(theta, 0.3 * theta)), inputs


def runner(spiking: SpikingNetwork) -> Runner:
    session = Events().open(spiking)
    assert isinstance(session, EventsSession)
    found = session.runners[0]
    assert found is not None
    return found


def runs(spiking: SpikingNetwork, inputs: Tensor, backend: Backend, cuts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return outputs and spikes of the first site [T, B, ...] in a run of chunks that end at `cuts`."""
    session, state, sent = backend.open(spiking), None, []
    fronts = spiking.network.front(inputs)
    for first, last in pairwise((0, *cuts)):
        sources = [session.constant(fronts[0], first, last - first)]
        traffic, state = session.advance(0, sources, state, torch.arange(len(inputs)), first, last - first)
        sent.append((traffic.output(), traffic.spikes()))
    return torch.cat([output for output, _ in sent]), torch.cat([spikes for _, spikes in sent])


THRESHOLDS = [
    0.5 + torch.linspace(0, 1, 19).view(19, 1, 1),
    torch.linspace(0.4, 2, 19 * 16).view(19, 4, 4),
    torch.tensor(0.7),
]
WAYS = ["channel", "neuron", "layer"]


@pytest.mark.parametrize("theta", THRESHOLDS, ids=WAYS)
def test_a_new_rule_runs_as_a_kernel(theta: Tensor) -> None:
    spiking, inputs = site(Everything(), theta)
    assert type(runner(spiking)) is WrittenRunner
    (output, spikes), expected = (runs(spiking, inputs, b, (16, 17, STEPS)) for b in (Events(), Step()))
    assert 0.1 < float((expected[1] > 0).float().mean()) < 0.9
    off = (spikes != expected[1]).flatten(2).any(0)
    assert off.float().mean() < 0.01  # exponentials round otherwise, and a potential may meet its threshold
    same = ~(spikes != expected[1]).any(0)
    torch.testing.assert_close(output[:, same], expected[0][:, same], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("theta", THRESHOLDS, ids=WAYS)
@pytest.mark.parametrize(
    "neuron",
    [
        SignedIntegrateAndFire(gated=False, cap=2), SignedIntegrateAndFire(cap=2), IntegrateAndFire(strict=True),
        IntegrateAndFire(reset="hard"), MaskedIntegrateAndFire(), Bistable(half=3, depth=1),
    ],
    ids=["ungated", "gated", "strict", "hard", "masked", "bistable"],
)  # fmt: skip
def test_rules_without_exponentials_are_exact(neuron: Neuron, theta: Tensor) -> None:
    spiking, inputs = site(neuron, theta)
    assert isinstance(runner(spiking), FusedRunner)
    for got, expected in zip(*(runs(spiking, inputs, b, (3, 30, STEPS)) for b in (Events(), Step())), strict=True):
        assert expected.any()
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


def soft_reset(neuron: Neuron, m: Tensor) -> tuple[Emission, Tensor]:
    s = (m >= neuron.threshold).to(m)
    return Emission(neuron.threshold * s), m - neuron.threshold * s


@dataclass(frozen=True, eq=False)
class Traps(Neuron):
    """Rules that a record of trial steps could get wrong, by name."""

    trap: str = ""

    def start(self, current: Tensor, samples: Tensor) -> Any:
        v, one = self.rest(current), [1] * (current.dim() - 1)
        if self.trap == "start by sample":
            v = v + self.threshold * (samples.view(-1, *one) * 0.37 % 1)
        if self.trap == "start by current":
            v = 0.5 * current
        return {
            "dataclass": Held(v), "list": [v], "shift": (v + 3 * self.threshold, v, 0), "step by sample": (v, samples, 0),
            "gain": (v, torch.full((1, *current.shape[1:]), 0.5)), "table": (v, 0),
        }.get(self.trap, (v,))  # fmt: skip

    def step(self, current: Tensor, state: Any) -> tuple[Emission, Any]:
        if self.trap == "dataclass":
            emission, v = soft_reset(self, state.v + current)
            return emission, Held(v)
        if self.trap == "shift":
            theta, v, t = state
            emission, v = soft_reset(self, v + current - 0.01 * theta)
            return emission, (self.threshold if t >= 4 else theta * 0.9, v, t + 1)
        if self.trap == "step by sample":
            v, samples, t = state
            gain = (samples.view(-1, *[1] * (current.dim() - 1)) + t) * 0.37 % 1
            emission, v = soft_reset(self, v + current * gain)
            return emission, (v, samples, t + 1)
        if self.trap == "table":
            emission, v = soft_reset(self, state[0] + current * torch.linspace(0.5, 1.5, STEPS)[state[1]])
            return emission, (v, state[1] + 1)
        if self.trap == "size of the batch":
            current = current / len(current)
        v = state[0]
        m = v + current
        if self.trap == "numpy":
            s = torch.from_numpy((m.numpy() >= self.threshold.numpy()).astype("float32"))
            return Emission(self.threshold * s), (m - self.threshold * s,)
        if self.trap == "changed constant":
            w = torch.linspace(0.5, 1.5, current.shape[1]).view(-1, *[1] * (current.dim() - 2))
            m = v * w.clone().clamp(max=0.9) + current * w
            w.mul_(2)
            m = m - 0.01 * w
        if self.trap == "remainder":
            m = m - (torch.floor(m / self.threshold) * 0.1 % 0.1).clamp(max=0.05)
        if self.trap == "saturation":
            m = m * (torch.exp(-100 * (m.abs() + 2)) == 0) + torch.sigmoid(50 * (m - 400))
        if self.trap == "nan":
            m = torch.where((v / (v * 0)).clamp(0, 1) < 2, m, 0.9 * m)
        emission, v = soft_reset(self, m)
        return emission, [v] if self.trap == "list" else (v, *state[1:])


@dataclass(frozen=True)
class Held:
    v: Tensor


@pytest.mark.parametrize("theta", THRESHOLDS[::2], ids=WAYS[::2])
@pytest.mark.parametrize(
    "trap",
    [
        "start by sample", "start by current", "dataclass", "list", "shift", "step by sample", "gain", "table",
        "size of the batch", "numpy", "changed constant", "remainder", "saturation", "nan",
    ],
)  # fmt: skip
def test_whatever_a_rule_does_both_backends_do_the_same(trap: str, theta: Tensor) -> None:
    spiking, inputs = site(Traps(trap=trap), theta)
    for got, expected in zip(*(runs(spiking, inputs, b, (16, STEPS)) for b in (Events(), Step())), strict=True):
        assert expected.any()
        assert float((got != expected).flatten(2).any(0).float().mean()) < 0.005


@pytest.mark.parametrize("kind", [Rivals, Branching])
def test_what_is_no_arithmetic_of_one_neuron_runs_in_pytorch(kind: type[Neuron]) -> None:
    spiking, inputs = site(kind(), THRESHOLDS[0])
    assert type(runner(spiking)) is TorchRunner
    (output, _), (expected, _) = (runs(spiking, inputs, b, (16, STEPS)) for b in (Events(), Step()))
    torch.testing.assert_close(output, expected)


def test_a_rule_that_changes_late_is_refused_by_name() -> None:
    spiking, inputs = site(Late(), THRESHOLDS[0])
    with pytest.raises(UserError, match=r"Late does something at step 39 .*aten.flip.*; use BACKEND=folded"):
        runs(spiking, inputs, Events(), (16, 32, STEPS))


def test_states_and_parameters_beyond_a_kernel_are_refused() -> None:
    class Many(Neuron):
        def start(self, current: Tensor, samples: Tensor) -> tuple[Tensor, ...]:
            return tuple(torch.zeros_like(current) for _ in range(7))

        def step(self, current: Tensor, state: Any) -> tuple[Emission, Any]:
            return Emission(current), state

    with pytest.raises(Unwritable, match="7 states"):
        WrittenNeuron(Many(), (3, 2, 2), 16)


def test_a_start_state_with_its_own_number_of_steps_is_taken_over() -> None:
    spiking, inputs = site(Bistable(half=3, depth=0), THRESHOLDS[0])
    neuron = spiking.stages[0].population
    current = spiking.stages[0].stage.synapses(*spiking.network.front(inputs))
    samples = torch.arange(len(inputs))
    _, warm = neuron.scan(current.expand(4, *current.shape), neuron.start(current, samples))
    session = Events().open(spiking)
    for state in (None, warm, None):
        begin = neuron.start(current, samples) if state is None else state
        expected, _ = neuron.scan(current.expand(20, *current.shape), begin)
        sources = [session.constant(spiking.network.front(inputs)[0], 0, 20)]
        got, _ = session.advance(0, sources, state, samples, 0, 20)
        torch.testing.assert_close(got.output(), expected.output, rtol=1e-6, atol=1e-6)
