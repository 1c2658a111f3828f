"""Neuron traces worked out by hand in methods.md: the skeleton 0.1, constant thresholds B1-B5, burst B9, half start C1."""

import pytest
import torch

from msat.method import Initial
from msat.neurons import Burst, IntegrateAndFire
from tests.conftest import f64, run_neuron


def neuron(theta: float = 1.0, v0: float = 0.0, **kwargs: object) -> IntegrateAndFire:
    return IntegrateAndFire(threshold=f64(theta), initial=f64(v0), **kwargs)  # type: ignore[arg-type]


def spike_steps(trace: dict[str, list[float]]) -> list[int]:
    return [t for t, s in enumerate(trace["s"], start=1) if s]


def test_soft_reset_from_rest() -> None:
    trace = run_neuron(neuron(), [0.375] * 8)
    assert spike_steps(trace) == [3, 6, 8]
    assert trace["v"][-1] == 0


def test_soft_reset_from_half() -> None:
    trace = run_neuron(neuron(v0=0.5), [0.375] * 8)
    assert spike_steps(trace) == [2, 4, 7]
    assert trace["v"][-1] == 0.5


def test_hard_reset_loses_the_surplus() -> None:
    trace = run_neuron(neuron(reset="hard"), [0.375] * 8)
    assert spike_steps(trace) == [3, 6]
    assert trace["v"][-1] == 0.75


def test_output_clips_at_threshold() -> None:
    trace = run_neuron(neuron(theta=0.5), [0.75] * 4)
    assert trace["o"] == [0.5] * 4
    assert trace["v"][-1] == 1.0


def test_fraction_of_maximum_clips() -> None:
    trace = run_neuron(neuron(theta=0.5 * 4), [3.0] * 6)  # B3: activation max 4, kappa .5
    assert trace["o"] == [2.0] * 6
    assert trace["v"][-1] == 6


@pytest.mark.parametrize(("strict", "spikes", "rest"), [(False, [1, 1, 1, 1], 0.0), (True, [0, 1, 1, 1], 0.5)])
def test_spike_at_equality(strict: bool, spikes: list[int], rest: float) -> None:
    trace = run_neuron(neuron(theta=0.5, strict=strict), [0.5] * 4)  # B5
    assert trace["s"] == spikes
    assert trace["v"][-1] == rest


def test_half_start_rounds_instead_of_flooring() -> None:
    half = Initial(0.5).potential(f64(1.0)).item()
    trace = run_neuron(neuron(v0=half), [0.375] * 4)  # C1
    assert spike_steps(trace) == [2, 4]
    assert sum(trace["o"]) / 4 == 0.5
    assert sum(run_neuron(neuron(), [0.375] * 4)["o"]) / 4 == 0.25


def test_shortcut_adds_currents() -> None:
    # 0.1: shortcut spikes of height 2 at every step, conv branch -.5, theta 4 -> mean output 1.5 exactly.
    trace = run_neuron(neuron(theta=4.0), [2 - 0.5] * 8)
    assert spike_steps(trace) == [3, 6, 8]
    assert sum(trace["o"]) / 8 == 1.5


def test_burst_counts() -> None:
    burst = Burst(threshold=f64(1.0), cap=5)  # B9
    trace = run_neuron(burst, [2.25] * 4)
    assert trace["s"] == [2, 2, 2, 3]
    assert trace["v"][-1] == 0
    clipped = run_neuron(burst, [6.25] * 4)
    assert clipped["s"] == [5] * 4
    assert clipped["v"][-1] == 5


def test_burst_of_one_is_integrate_and_fire() -> None:
    currents = torch.randn(64, generator=torch.Generator().manual_seed(3), dtype=torch.float64).tolist()
    assert run_neuron(Burst(threshold=f64(0.7), cap=1), currents) == run_neuron(neuron(theta=0.7), currents)


def test_weight_normalisation_gives_the_same_spikes() -> None:
    """0.1: scaling the threshold equals scaling the weights, with binary output."""
    x = torch.rand(32, 1, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    lam, weight = 4.0, torch.randn(5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    scaled, unit = neuron(theta=lam), neuron(theta=1.0)
    a, b = scaled.start(x[0], torch.zeros(1)), unit.start(x[0], torch.zeros(1))
    for current in x:
        one, a = scaled.step(current @ weight, a)
        two, b = unit.step(current @ (weight / lam), b)
        assert torch.equal(one.output, lam * two.output)
