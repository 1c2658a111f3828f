"""Threshold rules and statistics against NumPy and the values of methods.md B2, B8, D3."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msat.calibration import Site, maximum, quantile, with_floor
from msat.network import Relu, Stage
from msat.thresholds import Percentile, SquaredError, quantisation_error

STAGE = Stage("relu", (-1,), torch.nn.Identity(), Relu())


def site(values: torch.Tensor) -> Site:
    return Site(0, STAGE, values, values)


def test_percentile_leaves_out_zeros() -> None:
    values = torch.arange(1000, dtype=torch.float64).view(-1, 1)
    assert Percentile(99.9).threshold(site(values), 1).item() == pytest.approx(998.002)
    assert Percentile(99.9, nonzero=False).threshold(site(values), 1).item() == pytest.approx(998.001)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.floats(0, 1), st.sampled_from(["layer", "channel", "neuron"]))
def test_statistics_equal_numpy(seed: int, q: float, per: str) -> None:
    values = torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    axes = {"layer": None, "channel": (0, 2, 3), "neuron": 0}[per]
    wanted = {"layer": (), "channel": (3, 1, 1), "neuron": (3, 4, 5)}[per]
    np.testing.assert_allclose(quantile(values, q, per), np.quantile(values, q, axis=axes).reshape(wanted), atol=1e-12)  # type: ignore[arg-type]
    np.testing.assert_array_equal(maximum(values, per), values.numpy().max(axis=axes).reshape(wanted))  # type: ignore[arg-type]


def test_quantile_has_no_size_limit() -> None:
    values = torch.arange(17_000_000, dtype=torch.float32).view(-1, 1)
    assert quantile(values, 0.5).item() == 8_499_999.5 or quantile(values, 0.5).item() == 8_500_000


@pytest.mark.parametrize(("steps", "error"), [(4, 0.019375), (8, 0.006875), (16, 0.00166667)])
def test_least_squared_error(steps: int, error: float) -> None:
    values = torch.tensor([0.1] * 50 + [0.2] * 30 + [0.4] * 15 + [2.0], dtype=torch.float64).view(-1, 1)
    theta = SquaredError().threshold(site(values), steps)
    assert theta.item() == pytest.approx(1.6)
    assert quantisation_error(values.T, theta.view(1, 1), steps).item() == pytest.approx(error, abs=1e-8)


@pytest.mark.parametrize(("cap", "theta", "error"), [(1, 1.6, 0.019375), (2, 0.8, 0.006875), (4, 0.4, 0.00166667)])
def test_least_squared_error_with_bursts(cap: int, theta: float, error: float) -> None:
    values = torch.tensor([0.1] * 50 + [0.2] * 30 + [0.4] * 15 + [2.0], dtype=torch.float64).view(-1, 1)
    found = SquaredError(cap=cap).threshold(site(values), 4)
    assert quantisation_error(values.T, torch.full((1, 1), theta, dtype=torch.float64), 4, cap).item() == pytest.approx(
        error, abs=1e-8
    )
    assert quantisation_error(values.T, found.view(1, 1), 4, cap).item() <= error + 1e-12


def test_channels_that_never_fire_take_the_layers_threshold() -> None:
    assert with_floor(torch.tensor([0.0, 2.0, 3.0])).tolist() == [3, 2, 3]
