"""MSAT traces T1-T7 of methods.md A.8, the resting fraction of A.3 and spike confidence of A.5."""

from dataclasses import replace

import pytest
import torch

from msat.adaptive import AdaptiveThreshold, SpikeConfidence, resting_fraction
from msat.neurons import IntegrateAndFire
from msat.observers import SiteDiagnosis
from msat.randomness import uniform
from msat.task import CHAIN, RESIDUAL
from tests.conftest import f64, run_neuron


def thresholds(neuron: AdaptiveThreshold, x: float, steps: int) -> list[tuple[float, float, float]]:
    """Return (theta, spike, v) at each step for a constant current."""
    current = f64(x).view(1, 1)
    state = neuron.start(current, torch.zeros(1, dtype=torch.int64))
    rows = []
    for _ in range(steps):
        theta = neuron.threshold_at(current, state)
        before = state.v + current
        emission, state = neuron.step(current, state)
        rows.append((theta.item(), float(before.item() >= theta.item()), state.v.item()))
        assert emission.output.item() in (0.0, theta.item())
    return rows


def adaptive(V: float, **kwargs: object) -> AdaptiveThreshold:
    return AdaptiveThreshold(threshold=f64(V), parameters=kwargs.pop("parameters", CHAIN), **kwargs)  # type: ignore[arg-type]


def close(rows: list[tuple[float, float, float]], expected: list[tuple[float, float, float]]) -> None:
    for row, wanted in zip(rows, expected, strict=True):
        assert row == pytest.approx(wanted, abs=1e-6)


def test_t1_chain_parameters() -> None:
    close(
        thresholds(adaptive(1.0), 0.8, 6),
        [(1, 0, 0.8), (0.633042, 1, 0.966958), (0.643458, 1, 1.123499), (0.653236, 1, 1.270263),
         (0.662362, 1, 1.407901), (0.670839, 1, 1.537062)],
    )  # fmt: skip


def test_t2_recorded_by_the_authors() -> None:
    rows = thresholds(adaptive(3.544), -0.095, 5)
    assert [r[0] for r in rows] == pytest.approx([3.544, 0.489211, 0.478809, 0.468823, 0.459238], abs=1e-6)
    assert not any(r[1] for r in rows)


def test_t3_residual_parameters() -> None:
    close(
        thresholds(adaptive(2.0, parameters=RESIDUAL), 0.5, 6),
        [(2, 0, 0.5), (0.899833, 1, 0.100167), (0.861653, 0, 0.600167), (0.940825, 1, 0.159342),
         (0.865223, 0, 0.659342), (0.952674, 1, 0.206667)],
    )  # fmt: skip


def test_t4_single_terms() -> None:
    dtt = thresholds(adaptive(1.0, det=False), 0.8, 3)
    assert [r[0] for r in dtt] == pytest.approx([1, 0.423883, 0.449481], abs=1e-6)
    assert [r[2] for r in dtt] == pytest.approx([0.8, 1.176117, 1.526636], abs=1e-6)
    det = thresholds(adaptive(1.0, dtt=False), 0.8, 3)
    assert [r[0] for r in det] == pytest.approx([1, 0.701017, 0.701017], abs=1e-6)
    assert [r[2] for r in det] == pytest.approx([0.8, 0.898983, 0.997967], abs=1e-6)


def test_t5_dropped_spikes_are_lost_or_kept() -> None:
    sent = adaptive(1.0, confidence=SpikeConfidence(0.0, key=1))
    trace = run_neuron(sent, [0.8] * 6)
    assert trace["o"] == [0.0] * 6
    assert trace["v"] == pytest.approx([0.8, 0.966958, 1.123499, 1.270263, 1.407901, 1.537062], abs=1e-6)
    gated = adaptive(1.0, confidence=SpikeConfidence(0.0, key=1, reset="gated"))
    state = gated.start(f64(0.8).view(1, 1), torch.zeros(1, dtype=torch.int64))
    seen = []
    for _ in range(4):
        theta = gated.threshold_at(f64(0.8).view(1, 1), state).item()
        _, state = gated.step(f64(0.8).view(1, 1), state)
        seen.append((theta, state.v.item()))
    assert [v for _, v in seen] == pytest.approx([0.8, 1.6, 2.4, 3.2])
    assert [theta for theta, _ in seen] == pytest.approx([1, 0.633042, 0.685067, 0.740245], abs=1e-6)


def test_t6_raw_units_do_not_scale() -> None:
    def mean(V: float, x: float, **kwargs: object) -> float:
        return sum(run_neuron(adaptive(V, **kwargs), [x] * 16)["o"]) / 16

    assert mean(1.0, 0.8) == pytest.approx(0.644728, abs=1e-6)
    assert mean(2.0, 1.6) == pytest.approx(1.140659, abs=1e-6)
    assert mean(2.0, 1.6, units="normalised") == pytest.approx(2 * 0.644728, abs=2e-6)
    constant = [sum(run_neuron(IntegrateAndFire(threshold=f64(V)), [0.8 * V] * 16)["o"]) for V in (1.0, 2.0)]
    assert constant[1] == 2 * constant[0]


def test_t7_no_state_survives() -> None:
    neuron = adaptive(1.0)
    first = run_neuron(neuron, [0.3, 0.9, -0.2, 0.7])
    run_neuron(neuron, [2.0] * 5)
    assert run_neuron(neuron, [0.3, 0.9, -0.2, 0.7]) == first


@pytest.mark.parametrize(
    ("parameters", "V", "rho"),
    [
        (CHAIN, 0.25, 0.809),
        (CHAIN, 1.0, 0.667),
        (CHAIN, 3.5, 0.141),
        (RESIDUAL, 0.5, 0.645),
        (RESIDUAL, 10.0, 0.0155),
    ],
)
def test_resting_fraction(parameters: object, V: float, rho: float) -> None:
    assert resting_fraction(f64(V), parameters).item() == pytest.approx(rho, abs=5e-4)  # type: ignore[arg-type]


def test_both_terms_off_is_a_constant_threshold() -> None:
    currents = torch.randn(40, generator=torch.Generator().manual_seed(5), dtype=torch.float64).tolist()
    assert run_neuron(adaptive(0.9, dtt=False, det=False), currents) == run_neuron(
        IntegrateAndFire(threshold=f64(0.9)), currents
    )


def test_second_reading_of_the_input_term() -> None:
    """A.1: x(t) and m(t) - m(t-1) agree after a silent step and differ after a spike."""
    x = thresholds(adaptive(1.0, dtt=False), 0.8, 3)
    dm = thresholds(adaptive(1.0, dtt=False, det_input="dm"), 0.8, 3)
    assert dm[1][0] == x[1][0]
    assert dm[2][0] != x[2][0]


def test_confidence_is_the_share_of_active_neurons() -> None:
    """A.5: z = [-1, -.2, 0, .5, 2], cumulative spikes [0, 2, 1, 0, 4]."""
    site = SiteDiagnosis(3, 2, [2], [3], [1], [0.0], 1.0)
    assert site.sin_ratio(0) == pytest.approx(2 / 3)
    assert site.average_spikes(0) == 1.5
    assert site.confidence(0) == pytest.approx(1 / 3)


def test_masks_depend_on_input_neuron_and_step_only() -> None:
    whole = uniform(9, torch.arange(10), (3, 4), 5)
    assert torch.equal(uniform(9, torch.tensor([7, 2]), (3, 4), 5), whole[[7, 2]])
    assert not torch.equal(uniform(9, torch.arange(10), (3, 4), 6), whole)
    many = uniform(1, torch.arange(1000), (100,), 0)
    assert abs(many.mean().item() - 0.5) < 0.005
    assert abs(many.var().item() - 1 / 12) < 0.002


def test_confidence_passes_spikes_with_probability_p() -> None:
    always = AdaptiveThreshold(threshold=f64(1.0), dtt=False, det=False, confidence=SpikeConfidence(0.3, key=4))
    x = torch.full((200, 500), 1.0, dtype=torch.float64)
    emission, state = always.step(x, always.start(x, torch.arange(200)))
    assert emission.output.mean().item() == pytest.approx(0.3, abs=0.01)
    assert state.v.abs().max() == 0
    late = state._replace(t=16)
    assert always.step(x, late)[0].output.mean().item() == 1.0
    assert replace(always, confidence=None).step(x, state)[0].output.mean().item() == 1.0
