"""Kernels: currents equal PyTorch's for equal spikes over random layers and densities; exp, softplus; building and its absence."""

import ctypes
import logging
import math
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from msat.backends import events_synapses, kernels
from msat.backends.base import DenseTraffic
from msat.backends.events import Events
from msat.backends.events_lists import Buffer, EventTraffic, channels_last
from msat.backends.events_plan import Unmatched, plan
from msat.backends.events_pools import PoolRunner
from msat.backends.events_stages import FusedRunner
from msat.backends.events_synapses import Synapses, lanes, tile_for
from msat.backends.events_torch import Currents
from msat.backends.folded import FoldedSession
from msat.backends.kernels.structs import GATHER, SCAN, SCATTER
from msat.network import MaxPool, Relu, SpikingNetwork, SpikingStage, Stage
from msat.neurons import Emission, IntegrateAndFire
from msat.pooling import LateralInhibitionPool
from msat.tracing import trace

CHEAP = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
KINDS = ("binary", "graded", "signed")


@st.composite
def layers(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a convolution of 1 or 2 dimensions and the shape of one input that it accepts."""
    dims = draw(st.integers(1, 2))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    before, after = (groups * draw(st.integers(1, 24)) for _ in range(2))
    kernel, stride, padding, dilation = (
        tuple(draw(st.integers(low, high)) for _ in range(dims)) for low, high in ((1, 4), (1, 3), (0, 2), (1, 2))
    )
    least = [d * (k - 1) + 1 - 2 * p for k, p, d in zip(kernel, padding, dilation, strict=True)]
    size = tuple(draw(st.integers(max(1, n), max(1, n) + 7)) for n in least)
    kind = nn.Conv1d if dims == 1 else nn.Conv2d
    bias = draw(st.booleans())
    return kind(before, after, kernel, stride, padding, dilation, groups, bias), (before, *size)  # type: ignore[arg-type]


def spikes(shape: tuple[int, ...], density: float, kind: str, seed: int, steps: int = 3, batch: int = 2) -> Tensor:
    """Return random outputs [T, B, ...]; binary ones have a magnitude per channel."""
    make = torch.Generator().manual_seed(seed)
    on = (torch.rand(steps, batch, *shape, generator=make) < density).float()
    if kind == "binary":
        return on * magnitudes(shape[0]).view(-1, *[1] * (len(shape) - 1))
    return (
        on
        * torch.rand(on.shape, generator=make).add(0.1)
        * (1 if kind == "graded" else torch.randn(on.shape, generator=make).sign())
    )


def magnitudes(channels: int) -> Tensor:
    return torch.linspace(0.5, 2.0, channels)


def traffic_of(outputs: Tensor, kind: str) -> EventTraffic:
    """Return outputs [T, B, ...] as lists, without values if they are binary."""
    shape = tuple(outputs.shape[2:])
    buffer = Buffer(shape, tile_for(shape[0]), graded=True)
    traffic = EventTraffic(buffer, buffer.lists(outputs.shape[1], len(outputs)), outputs.shape[1], None)
    traffic.record(0, outputs, None)
    if kind == "binary":
        traffic.lists.value, traffic.scale = None, magnitudes(shape[0])
    return traffic


def synapses_of(module: nn.Module, shapes: list[tuple[int, ...]], kinds: list[str], shape: tuple[int, ...]) -> Synapses:
    scales = [magnitudes(s[0]) if kind == "binary" else None for s, kind in zip(shapes, kinds, strict=True)]
    return Synapses(
        SpikingStage(Stage("s", tuple(range(len(shapes))), module, Relu()), IntegrateAndFire()), shapes, scales, shape
    )


def currents_of(synapses: Synapses, shape: tuple[int, ...], sources: list[EventTraffic]) -> Tensor:
    """Return the currents that the event kernel computes: [T, B, ...]."""
    assert synapses.listen(sources) != SCAN
    batch, steps = sources[0].batch, sources[0].steps
    ((_, _, currents),) = Currents(synapses, shape, None).parts(sources, batch, 0, steps, steps)
    return currents


@pytest.fixture(params=["gather", "scatter"], name="kernel")
def use_one_kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every layer that allows it use one kernel."""
    wanted = {"gather": GATHER, "scatter": SCATTER}[request.param]
    monkeypatch.setattr(events_synapses.Cost, "cheapest", lambda cost, _: wanted if wanted in cost.allowed else GATHER)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("kind", KINDS)
def test_currents_equal_the_convolution(kind: str) -> None:
    @CHEAP
    @given(layers(), st.floats(0, 1), st.integers(0, 2**20))
    def check(layer: tuple[nn.Module, tuple[int, ...]], density: float, seed: int) -> None:
        module, shape = layer
        outputs = spikes(shape, density, kind, seed)
        with torch.no_grad():
            expected = module(outputs.flatten(0, 1)).view(3, 2, *module(outputs[0]).shape[1:])
        synapses = synapses_of(wrapped(module), [shape], [kind], tuple(expected.shape[2:]))
        got = currents_of(synapses, tuple(expected.shape[2:]), [traffic_of(outputs, kind)])
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)

    check()


def wrapped(*modules: nn.Module) -> fx.GraphModule:
    """Return a graph that applies modules one after another."""
    return fx.symbolic_trace(nn.Sequential(*modules))


class Joined(nn.Module):
    """What residual networks add up: a convolution, a projection, and He's option A."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(5, 12, 3, 2, 1)
        self.project = nn.Conv2d(4, 12, 1, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        cut = nn.functional.pad(b[:, :, ::2, ::2], (0, 0, 0, 0, 3, 5))
        return self.conv(a) + cut + self.project(b)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("kinds", [["binary", "binary"], ["graded", "binary"], ["binary", "signed"]])
def test_sums_of_layers_and_shortcuts(kinds: list[str]) -> None:
    module = Joined()
    a, b = spikes((5, 7, 9), 0.2, kinds[0], 1), spikes((4, 7, 9), 0.3, kinds[1], 2)
    with torch.no_grad():
        expected = module(a.flatten(0, 1), b.flatten(0, 1)).view(3, 2, 12, 4, 5)
    synapses = synapses_of(fx.symbolic_trace(module), [(5, 7, 9), (4, 7, 9)], kinds, (12, 4, 5))
    got = currents_of(synapses, (12, 4, 5), [traffic_of(a, kinds[0]), traffic_of(b, kinds[1])])
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


class Shortcut(nn.Module):
    """An identity shortcut round a grouped convolution of a single channel width."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(20, 20, 3, padding=1, groups=20)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (self.conv(a) + b).add(a)


HEADS: list[tuple[list[nn.Module], tuple[int, ...]]] = [
    ([nn.AvgPool2d(2), nn.Conv2d(6, 40, 3, padding=1)], (6, 8, 8)),
    ([nn.AvgPool2d(3), nn.Flatten(), nn.Linear(6 * 4, 10)], (6, 8, 7)),
    ([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(200, 10)], (200, 5, 4)),
    ([nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(9, 3)], (9, 28)),
    ([nn.AvgPool1d(4), nn.Conv1d(3, 5, 3)], (3, 30)),
    ([nn.Flatten(), nn.Linear(3 * 4 * 5, 140)], (3, 4, 5)),
    ([nn.Linear(70, 33)], (70,)),
]


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    ("modules", "shape"), HEADS, ids=lambda x: type(x[0]).__name__ if isinstance(x, list) else str(x)
)
def test_pools_and_linear_layers(modules: list[nn.Module], shape: tuple[int, ...]) -> None:
    outputs = spikes(shape, 0.3, "binary", 3)
    module = nn.Sequential(*modules)
    with torch.no_grad():
        expected = module(outputs.flatten(0, 1)).unflatten(0, (3, 2))
    synapses = synapses_of(wrapped(*modules), [shape], ["binary"], tuple(expected.shape[2:]))
    assert synapses.chains
    got = currents_of(synapses, tuple(expected.shape[2:]), [traffic_of(outputs, "binary")])
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("kernel")
def test_depthwise_with_shortcuts() -> None:
    module, shape = Shortcut(), (20, 11)
    a, b = spikes(shape, 0.4, "graded", 5), spikes(shape, 0.4, "binary", 6)
    with torch.no_grad():
        expected = module(a.flatten(0, 1), b.flatten(0, 1)).view(3, 2, *shape)
    synapses = synapses_of(fx.symbolic_trace(module), [shape, shape], ["graded", "binary"], shape)
    got = currents_of(synapses, shape, [traffic_of(a, "graded"), traffic_of(b, "binary")])
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "modules",
    [
        [nn.Conv2d(6, 6, 3), nn.Conv2d(6, 6, 3)],
        [nn.AvgPool2d(3, 2)],
        [nn.Conv2d(6, 6, 3, padding=1, padding_mode="circular")],
        [nn.AvgPool2d(2)],
        [nn.ConvTranspose2d(6, 6, 3)],
    ],
    ids=lambda modules: "-".join(type(m).__name__ for m in modules),
)
def test_what_the_kernels_do_not_know_is_left_to_pytorch(modules: list[nn.Module]) -> None:
    with pytest.raises(Unmatched):
        plan(wrapped(*modules), [(6, 8, 8)])


@CHEAP
@given(
    st.integers(1, 70),
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from(KINDS),
    st.floats(0, 1),
    st.integers(0, 99),
)
def test_lists_hold_what_was_put_in(
    channels: int, height: int, width: int, kind: str, density: float, seed: int
) -> None:
    outputs = spikes((channels, height, width), density, kind, seed)
    traffic = traffic_of(outputs, kind)
    torch.testing.assert_close(traffic.output(), outputs, rtol=0, atol=0)
    torch.testing.assert_close(traffic.spikes(), (outputs != 0).float(), rtol=0, atol=0)
    assert traffic.events() == int((outputs != 0).sum())
    weight = torch.rand(channels, height, width, dtype=torch.float64)
    expected = ((outputs != 0) * weight).flatten(2).sum((1, 2))
    for weighted in traffic.weighted(weight):
        torch.testing.assert_close(weighted, expected)
    flat = torch.ones_like(weight) * torch.arange(width)
    torch.testing.assert_close(traffic.weighted(flat)[0], ((outputs != 0) * flat).flatten(2).sum((1, 2)))
    share = torch.linspace(0.5, 1, len(outputs))
    sent, fired = traffic.totals(1, 3, share)
    torch.testing.assert_close(sent, share[1] * outputs[1] + share[2] * outputs[2])
    torch.testing.assert_close(fired, (outputs[1:3] != 0).float().sum(0), rtol=0, atol=0)


def test_counts_travel_with_the_events() -> None:
    counts = torch.randint(-3, 4, (2, 3, 5, 4)).float()
    outputs = counts * 0.7
    outputs[0, 0, 0, 0], counts[0, 0, 0, 0] = 0.0, 2.0  # spikes that cancel: an event without output
    buffer = Buffer((5, 4), lanes(), graded=True, counted=True)
    traffic = EventTraffic(buffer, buffer.lists(3, 2), 3, None)
    traffic.record(0, outputs, counts)
    torch.testing.assert_close(traffic.output(), outputs)
    torch.testing.assert_close(traffic.spikes(), counts)
    weight = torch.rand(5, 4, dtype=torch.float64)
    spiked, sent = traffic.weighted(weight)
    torch.testing.assert_close(spiked, (counts.abs() * weight).flatten(2).sum((1, 2)))
    torch.testing.assert_close(sent, ((counts != 0) * weight).flatten(2).sum((1, 2)))
    totals, dense = traffic.totals(0, 2, torch.tensor([1.0, 0.5])), DenseTraffic(Emission(outputs, counts))
    for ours, plain in zip(totals, dense.totals(0, 2, torch.tensor([1.0, 0.5])), strict=True):
        torch.testing.assert_close(ours, plain)


POOLS = [
    MaxPool((2, 2), (2, 2), (0, 0), (1, 1)),
    MaxPool((3, 3), (2, 2), (1, 1), (1, 1)),
    MaxPool((2, 3), (1, 2), (0, 1), (2, 1), True),
    MaxPool((4,), (4,), (0,), (1,)),
    MaxPool((3,), (1,), (1,), (1,)),
]


@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_lateral_inhibition_among_lists(pool: MaxPool, kind: str) -> None:
    shape = (37, 8, 9) if len(pool.kernel) == 2 else (37, 18)
    outputs = spikes(shape, 0.3, kind, 4, steps=12)
    if kind == "binary":
        outputs = (outputs != 0).float()  # whole numbers, so that PyTorch's sums are exact too
    traffic = traffic_of(outputs, kind)
    if kind == "binary":
        traffic.scale = torch.ones(37)
    population = LateralInhibitionPool(pool)
    emission, _ = population.scan(outputs, population.start(outputs[0], torch.arange(2)))
    source = FusedRunner.__new__(FusedRunner)
    source.scale = traffic.scale
    runner = PoolRunner(population, source, traffic.buffer.block, shape, tuple(emission.output.shape[2:]))
    got, _ = runner.advance([traffic], None, torch.arange(2), 0, 12)
    torch.testing.assert_close(got.output(), emission.output, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_lateral_inhibition_among_lists_of_bursts(pool: MaxPool) -> None:
    shape = (37, 8, 9) if len(pool.kernel) == 2 else (37, 18)
    make = torch.Generator().manual_seed(5)
    unit = torch.rand(37, *[1] * (len(shape) - 1), generator=make) + 0.1
    on = torch.rand(12, 2, *shape, generator=make) < 0.3
    counts = torch.randint(1, 4, on.shape, generator=make) * on.float()
    buffer = Buffer(shape, tile_for(37), graded=True, counted=True)
    traffic = EventTraffic(buffer, buffer.lists(2, 12), 2, None)
    traffic.record(0, counts * unit, counts)
    population = LateralInhibitionPool(pool, spike_kind="count", unit=unit)
    emission, _ = population.scan(counts * unit, population.start(counts[0], torch.arange(2)))
    source = FusedRunner.__new__(FusedRunner)
    source.scale = None
    runner = PoolRunner(population, source, buffer.block, shape, tuple(emission.output.shape[2:]))
    got, _ = runner.advance([traffic], None, torch.arange(2), 0, 12)
    assert emission.events is not None
    assert torch.equal(got.spikes(), emission.events)
    torch.testing.assert_close(got.output(), emission.output)


def test_exp_and_softplus() -> None:
    x = np.linspace(-80, 80, 2**16, dtype=np.float32)
    exponential, plus = np.empty_like(x), np.empty_like(x)
    arrays = [ctypes.c_void_p(a.ctypes.data) for a in (x, exponential, plus)]
    kernels.library().run_functions(*arrays, ctypes.c_int64(len(x)))
    wide = x.astype(np.float64)
    assert np.abs(exponential / np.exp(wide) - 1).max() < 2e-7
    assert np.abs(plus / np.logaddexp(0, wide) - 1).max() < 2e-7


def test_the_library_is_built_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSAT_KERNELS", str(tmp_path))
    kernels.library.__wrapped__()
    (built,) = tmp_path.iterdir()
    monkeypatch.setattr(kernels, "_build", refuse)
    assert kernels.library.__wrapped__()._name == str(built)


def refuse(*_: Any) -> bool:
    return False


@pytest.mark.skipif(lanes() < 16 or platform.machine() != "x86_64", reason="the vectors are no wider than AVX2's")
def test_narrower_vectors_compute_the_same(tmp_path: Path) -> None:
    """Run this file on kernels built for AVX2, which most machines have."""
    narrow = tmp_path / "c++"
    narrow.write_text(f'#!/bin/sh\nexec {kernels._compiler()} "$@" -march=x86-64-v3\n')
    narrow.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not built and not compiler", __file__],
        env={**os.environ, "CXX": str(narrow), "MSAT_KERNELS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert {ctypes.CDLL(str(built)).lanes() for built in tmp_path.glob("events-*.so")} == {8}


def test_a_compiler_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSAT_KERNELS", str(tmp_path))
    monkeypatch.setattr(kernels, "_build", refuse)
    with pytest.raises(kernels.NoCompiler, match=r"does not compile .*kernels.cpp; install g"):
        kernels.library.__wrapped__()


def test_without_a_compiler_the_folded_backend_serves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr("msat.backends.events.library", kernels.library.__wrapped__)
    with caplog.at_level(logging.WARNING):
        session = Events().open(SpikingNetwork(trace(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.zeros(1, 2)), ()))
    assert isinstance(session, FoldedSession)
    assert "no C++ compiler found (no-such-compiler)" in caplog.text
    assert len(caplog.records) == 1


def test_channels_last_and_tiles() -> None:
    x = torch.randn(2, 3, 4, 5, 6)
    assert torch.equal(channels_last(x), x.permute(0, 1, 3, 4, 2))
    assert [tile_for(lanes() * n) // lanes() for n in (1, 2, 3, 4, 8, 16)] == [1, 2, 1, 4, 8, 8]
    assert math.prod(channels_last(x).shape) == x.numel()
