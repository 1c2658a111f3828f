"""The methods since MSAT against the values of methods.md D1-D9, and the controls at MSAT's resting threshold."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from baselines import adafire, cos, dcgs, group_neuron, hmt, ltb, msat_rest, parallel, srp
from msat.adaptive import AdaptiveState, AdaptiveThreshold
from msat.backends import Folded
from msat.calibration import Calibration
from msat.coding import DifferentialNeuron, DifferentialPool, DifferentialReadout
from msat.conversion import convert
from msat.expectation import pointwise, product, start_pointwise, start_product
from msat.method import Method
from msat.multithreshold import HybridMultiThreshold, MultiThreshold, Retracting
from msat.network import MaxPool, SpikingNetwork
from msat.neurons import Burst, IntegrateAndFire
from msat.pooling import LateralInhibitionPool
from msat.simulation import Chunk, Observer, simulate, tensor_batches
from msat.task import CHAIN, RESIDUAL
from msat.thresholds import Maximum, Percentile, SquaredError
from msat.tracing import trace
from tests.conftest import f64, run_neuron
from tests.test_simulation import Scores

MULTI = MultiThreshold(threshold=f64(1.0), members=4)


def column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)


def scores(network: SpikingNetwork, inputs: Tensor, steps: int) -> Tensor:
    """Return the readout's score at every step: [T, B, classes]."""
    seen = Scores(network)
    simulate(network, tensor_batches(inputs, len(inputs)), steps, [seen], Folded())
    return seen.tensor().view(steps, len(inputs), -1)


def converted(method: Method, small: tuple[nn.Module, Tensor], steps: int = 16) -> SpikingNetwork:
    model, inputs = small
    return convert(method, Calibration(trace(model, inputs), inputs, steps))


# D1: DCGS


@pytest.mark.parametrize(
    ("mean", "variance", "levels", "theta"),
    [
        (0, 1, 4, 2.135289),
        (0, 1, 16, 2.910061),
        (0, 1, 64, 3.191336),
        (-0.5, 1, 16, 2.586336),
        (0, 4, 16, 5.818731),
    ],
)
def test_gaussian_threshold_iteration(mean: float, variance: float, levels: int, theta: float) -> None:
    value = dcgs.iterate(column([mean]).view(1), column([variance]).view(1), levels)
    assert value.item() == pytest.approx(theta, abs=2e-6)


def test_gaussian_iteration_survives_dead_channels() -> None:
    theta = dcgs.iterate(torch.tensor([-30.0, -1.0, 0.0]), torch.tensor([1.0, 0.0, 1.0]), 16)
    assert theta.isfinite().all()
    assert (theta >= 0).all()


def test_multi_threshold_rate_traces() -> None:
    trace = run_neuron(MULTI, [0.6, 0.3, -0.5, 0.0])
    assert trace["o"] == [0.5, 0.5, -0.5, -0.125]
    assert trace["v"] == pytest.approx([0.1, -0.1, -0.1, 0.025])
    clipped = run_neuron(MULTI, [2.3, 0.0, 0.0, 0.0])
    assert clipped["o"] == [1.0, 1.0, 0.25, 0.0]
    assert clipped["v"] == pytest.approx([1.3, 0.3, 0.05, 0.05])


def test_single_threshold_with_negative_spikes() -> None:
    neuron = Retracting(threshold=f64(1.0), initial=f64(0.5))
    assert run_neuron(neuron, [1.25, -0.75, -1.0, -1.0, 0.25])["o"] == [1.0, -1.0, 0.0, 0.0, 0.0]


def differential(bias: float, currents: Sequence[float]) -> list[tuple[float, float, float, float, float]]:
    """Return (s, e_in, e_out, v, decoded) of a differential neuron at every step."""
    neuron, x, rows = DifferentialNeuron(MULTI, f64(bias)), column(currents), []
    state = neuron.start(x[0], torch.zeros(1))
    for current in x:
        before = state.e_out
        emission, state = neuron.step(current, state)
        s = emission.output
        row = (s, state.e_in, state.e_out, state.inner.v, before + s)
        rows.append(tuple(value.item() for value in row))
    return rows  # type: ignore[return-value]


def test_differential_traces() -> None:
    s, e_in, e_out, v, decoded = zip(*differential(0.1, [0.7, 0.1, 0.1, 0.1]), strict=True)
    assert s == (0.5, 0.5, -0.125, 0.0)
    assert e_in == pytest.approx([0.7] * 4)
    assert e_out == pytest.approx([0.5, 0.75, 0.708333, 0.708333], abs=1e-6)
    assert decoded == pytest.approx([0.5, 1.0, 0.625, 0.708333], abs=1e-6)
    assert v[-1] == pytest.approx(-0.033333, abs=1e-6)
    s, _, e_out, _, _ = zip(*differential(0.0, [0.3, 0.0, 0.0, 0.0]), strict=True)
    assert s == (0.25, 0.125, 0.0, 0.0)
    assert e_out == (0.25, 0.3125, 0.3125, 0.3125)


def test_differential_identities() -> None:
    """v(t) = t (e_in - e_out) + v0, and the estimate is the mean of the decoded steps."""
    currents = torch.randn(40, generator=torch.Generator().manual_seed(2)).tolist()
    rows = differential(0.2, currents)
    for t, (_, e_in, e_out, v, _) in enumerate(rows, start=1):
        assert v == pytest.approx(t * (e_in - e_out), abs=1e-9)
        assert e_out == pytest.approx(sum(row[4] for row in rows[:t]) / t, abs=1e-9)


def test_differential_pool_and_readout_decode_to_the_mean() -> None:
    """Pool: mean of the decoded steps = maximum of the decoded inputs, exactly as for rates."""
    currents = torch.randn(20, 1, 2, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    pool = DifferentialPool(LateralInhibitionPool(MaxPool((2,), (2,), (0,), (1,))), f64(0.3))
    state, estimate = pool.start(currents[0], torch.zeros(1)), torch.full_like(currents[0], 0.3)
    readout = DifferentialReadout(f64(0.0))
    tally = readout.start(currents[0][..., :2], torch.zeros(1))
    decoded = torch.zeros_like(currents)
    for t, current in enumerate(currents, start=1):
        decoded[t - 1] = estimate + current - 0.3
        estimate = estimate + (current - 0.3) / t
        emission, state = pool.step(current, state)
        logits, tally = readout.step(emission.output, tally)
    best = decoded.sum(0).view(1, 2, 2, 2).amax(-1) / 20
    torch.testing.assert_close(state.e_out, best)
    torch.testing.assert_close(logits.output, best)


def test_differential_coding_goes_silent_on_constant_input(small: tuple[nn.Module, Tensor]) -> None:
    late = scores(converted(dcgs.dcgs(), small, 64), small[1], 64)
    error = (late - small[0](small[1])).abs().amax((1, 2))
    assert error[3] < 0.2
    assert error[63] < error[7] < error[0]


# D2: LTB


def test_threshold_balancing_steps() -> None:
    z, theta, seen = column([0.5, 1.5]).view(2, 1), torch.zeros(1, dtype=torch.float64), []
    for _ in range(4):
        theta = ltb.balanced(theta, z, 0.1)
        seen.append(theta.item())
    assert seen == pytest.approx([0.2, 0.36, 0.488, 0.5904])
    assert ltb.LocallyBalanced(4, 0.1, 2).balance(z).item() == pytest.approx(0.5904)
    assert ltb.LocallyBalanced(5000, 0.1, 1).balance(z).item() == pytest.approx(1.5, abs=1e-6)


def test_threshold_of_a_saturated_relu6_is_6() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU6(), nn.Linear(3, 2))
    inputs = torch.full((8, 3), 50.0)
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    calibration = Calibration(trace(model, inputs), inputs, 4)
    torch.testing.assert_close(ltb.LocallyBalanced().fit(calibration)[0], torch.full((3,), 6.0))
    torch.testing.assert_close(Maximum().fit(calibration)[0], torch.tensor(6.0))


def test_thresholds_are_per_channel_and_seen_through_the_clipped_network(small: tuple[nn.Module, Tensor]) -> None:
    model, inputs = small
    calibration = Calibration(trace(model, inputs), inputs, 4)
    few, many = ltb.LocallyBalanced(20).fit(calibration), ltb.LocallyBalanced(3000).fit(calibration)
    assert [t.shape for t in few] == [(6, 1, 1), (6, 1, 1)]
    assert all((a <= b).all() for a, b in zip(few, many, strict=True))
    top = Maximum("channel").fit(calibration)
    assert (many[0] <= top[0] * (1 + 1e-5)).all()
    assert (many[0] > 0.7 * top[0]).all()


def test_delay() -> None:
    t0 = sum(
        ltb.delay(torch.tensor([0.1, mean]), torch.tensor(theta), torch.tensor(theta / 2))
        for theta, mean in ((1.0, 0.5), (2.0, 0.8))
    )
    assert t0 == pytest.approx(2.25)
    per_channel = ltb.delay(torch.tensor([[0.1], [0.5]]), torch.tensor([[9.0], [1.0]]), torch.tensor([[0.0], [0.5]]))
    assert per_channel == pytest.approx(1.0)  # the channel's own threshold


@pytest.mark.parametrize("wait", [0, 2, 7])
def test_delayed_readout(wait: int) -> None:
    """t0 = 2.25: steps 3..t from t = 7 on, the last four before."""
    currents = torch.randn(14, generator=torch.Generator().manual_seed(4)).tolist()
    got = run_neuron(ltb.DelayedReadout(wait), currents)["o"]
    for t in range(1, 15):
        first = wait if t >= wait + 4 else max(0, t - 4)
        assert got[t - 1] == pytest.approx(sum(currents[first:t]), abs=1e-6)


# D3: AdaFire


@pytest.mark.parametrize(("cap", "theta"), [(1, 1.6), (2, 0.8), (4, 0.4)])
def test_squared_error_threshold_with_bursts(cap: int, theta: float) -> None:
    values = torch.tensor([0.1] * 50 + [0.2] * 30 + [0.4] * 15 + [2.0], dtype=torch.float64).view(-1, 1)
    calibration = Calibration(trace(Identity(), values), values, 4)
    assert SquaredError(cap=cap).fit(calibration)[0].item() == pytest.approx(theta)


class Identity(nn.Module):
    """A network with one site whose activations are its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(1, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(x * 1.0))


def test_burst_with_shift() -> None:
    trace = run_neuron(Burst(threshold=f64(1.0), cap=3), [1.6 + 1 / 8] * 4)
    assert trace["s"] == [1, 2, 2, 1]
    assert trace["v"][-1] == pytest.approx(0.9)


def test_pareto_search_equals_brute_force() -> None:
    generator = torch.Generator().manual_seed(6)
    noise = torch.rand(5, 4, 2, generator=generator).tolist()
    layers = [
        [adafire.Candidate(cap, cap + cost, loss / cap) for cap, (cost, loss) in enumerate(row, start=1)]
        for row in noise
    ]
    budget = 0.7 * sum(row[-1].cost for row in layers)
    best = math.inf
    for code in range(4**5):
        picks = [row[code // 4**i % 4] for i, row in enumerate(layers)]
        if sum(p.cost for p in picks) <= budget:
            best = min(best, sum(p.sensitivity for p in picks))
    chosen = [row[cap - 1] for row, cap in zip(layers, adafire.cheapest_agreement(layers, budget), strict=True)]
    assert sum(c.cost for c in chosen) <= budget
    assert sum(c.sensitivity for c in chosen) == pytest.approx(best, rel=0.01)
    assert adafire.cheapest_agreement(layers, 0.1) == [1] * 5  # nothing is affordable: the cheapest


def test_divergence_is_symmetric_and_zero_on_itself() -> None:
    a, b = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    assert adafire.divergence(a, a) == 0
    assert adafire.divergence(a, b) == pytest.approx(adafire.divergence(b, a))


def test_adafire_sets_caps_thresholds_and_shift(small: tuple[nn.Module, Tensor]) -> None:
    network = converted(adafire.adafire(), small)
    for site in Calibration(trace(*small), small[1], 16).sites():
        stage = network.stages[site.position]
        assert isinstance(stage.population, Burst)
        assert 1 <= stage.population.cap <= 4
        whole = SquaredError("channel", stage.population.cap).threshold(site, 16)
        torch.testing.assert_close(stage.population.threshold, whole, rtol=0.0, atol=0.0)
        assert whole.shape == (6, 1, 1)
        assert stage.offset is not None
    answers = small[0](small[1])
    assert (scores(network, small[1], 16)[-1] / 16 - answers).abs().mean() < 0.05


# D4: parallel


def parallel_outputs(currents: Sequence[float], theta: float = 1.0) -> list[float]:
    neuron = parallel.ParallelNeuron(threshold=f64(theta), initial=f64(theta / 2))
    x = column(currents)
    return neuron.scan(x, neuron.start(x[0], torch.zeros(1)))[0].output.flatten().tolist()


def test_parallel_traces() -> None:
    assert parallel_outputs([1, 0, 0, 0.4]) == [1, 0, 0, 0]
    assert parallel_outputs([0.9] * 4) == [1, 1, 1, 1]


@pytest.mark.parametrize("seed", range(8))
def test_parallel_equals_the_published_form_and_even_integration(seed: int) -> None:
    """count = clip(floor(sum x / theta + 1/2), 0, T); s(k) = H(T xbar/k + v0/k - theta)."""
    x = torch.randn(9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
    theta, got = 0.7, parallel_outputs(x, 0.7)
    assert round(sum(got) / theta) == min(max(math.floor(sum(x) / theta + 0.5), 0), 9)
    assert got == [theta if sum(x) / k + theta / 2 / k - theta >= 0 else 0 for k in range(1, 10)]
    mean = sum(x) / 9
    even = run_neuron(IntegrateAndFire(threshold=f64(theta), initial=f64(theta / 2)), [mean] * 9)
    assert sum(even["o"]) == pytest.approx(sum(got))


def test_offsets_shrink_the_mean_error_of_every_channel(small: tuple[nn.Module, Tensor]) -> None:
    """At the fixed point what is left of the first site's mean error is e_out itself: error / (1 + mean rate)."""
    model, inputs = small
    (_, _, a), *_ = trace(model, inputs).trace(inputs)
    left = {}
    for corrected in (False, True):
        network = converted(parallel.parallel(corrected=corrected), small, 4)
        seen = LastOutput()
        simulate(network.prefix(0), tensor_batches(inputs, 24), 4, [seen], Folded())
        left[corrected] = parallel.channel_mean(a - seen.mean)
    neuron = network.stages[0].population
    assert isinstance(neuron, parallel.ParallelNeuron)
    torch.testing.assert_close(left[True], neuron.surplus, rtol=1e-3, atol=1e-6)
    assert (left[True].abs() <= left[False].abs()).all()


class LastOutput(Observer):
    """Mean output of the latest chunk, [B, ...]."""

    mean = torch.tensor(0.0)

    def see(self, chunk: Chunk) -> None:
        self.mean = chunk.traffic.output().mean(0)


# D5, D6: two passes


def test_masked_neurons() -> None:
    neuron = srp.MaskedIntegrateAndFire(threshold=f64(1.0), initial=f64(0.5))
    for currents, first, rest, mask in (
        ([1.0, -0.6, -0.6, -0.1], [1, 0, 0, 0], -0.8, 0),
        ([0.25] * 4, [0, 1, 0, 0], 0.5, 1),
    ):
        x = column(currents)
        emission, state = neuron.scan(x, neuron.start(x[0], torch.zeros(1)))
        assert emission.output.flatten().tolist() == first
        assert state.v.item() == pytest.approx(rest)
        again = srp.masked(neuron, state)
        assert again is not None
        assert (again.v.item(), again.mask.item()) == (0.5, mask)
        assert neuron.scan(x, again)[0].output.flatten().tolist() == [s * mask for s in first]


@pytest.mark.parametrize(
    ("currents", "spikes", "lowest", "highest", "v0", "second"),
    [
        ([1, -0.6, -0.6, -0.1], 1, 1.5, -0.1, -0.5, [0, 0, 0, 0]),
        ([-1, -0.25, 1.25, 2], 1, 2.5, 0.5, 1.5, [0, 0, 1, 1]),
        ([-0.5, 0.25, 1.25, 1.5], 2, 1.5, 0.25, 1.5, [1, 0, 1, 1]),
        ([2.0] * 4, 4, 2.5, -math.inf, 0.5, [1, 1, 1, 1]),  # saturated: no silent step to add a spike to
    ],
)
def test_offset_spikes(
    currents: list[float], spikes: int, lowest: float, highest: float, v0: float, second: list[float]
) -> None:
    neuron, x = cos.WatchedNeuron(threshold=f64(1.0), initial=f64(0.5)), column(currents)
    state = neuron.scan(x, neuron.start(x[0], torch.zeros(1)))[1]
    assert (state.n.item(), state.lowest.item(), state.highest.item()) == pytest.approx((spikes, lowest, highest))
    shifted = neuron.shifted(state)
    assert shifted.item() == pytest.approx(v0)
    plain = IntegrateAndFire(threshold=f64(1.0), initial=shifted)
    assert run_neuron(plain, currents)["o"] == second


def test_second_pass_of_a_network(small: tuple[nn.Module, Tensor]) -> None:
    model, inputs = small
    answers, errors = model(inputs), {}
    for method in (group_neuron.group_neuron(members=1), srp.srp(), cos.cos()):
        network = converted(method, small, 8)
        errors[method.name] = (scores(network, inputs, 8)[-1] / 8 - answers).abs().mean()
        assert method.real_latency(8, 2) == {"srp": 12, "cos": 16}.get(method.name, 8)
    assert errors["cos"] < 1.1 * errors["group-neuron"]


# D7: group neuron


def test_group_neuron() -> None:
    neuron = Burst(threshold=f64(0.25), initial=f64(0.125), cap=4)
    trace = run_neuron(neuron, [0.6] * 3)
    assert trace["o"] == [0.5, 0.75, 0.5]
    assert trace["v"] == pytest.approx([0.225, 0.075, 0.175])
    assert run_neuron(neuron, [1.5] * 2) == {"o": [1.0, 1.0], "s": [4.0, 4.0], "v": [0.625, 1.125]}


def test_group_neuron_is_a_burst_of_smaller_thresholds_from_half(small: tuple[nn.Module, Tensor]) -> None:
    """Members with thresholds j theta/m: k = number of those at or below M."""
    network = converted(group_neuron.group_neuron(members=4), small)
    theta = Percentile(99.9).fit(Calibration(network.network, small[1], 16))
    for position, whole in zip(network.network.sites, theta, strict=True):
        neuron = network.stages[position].population
        assert isinstance(neuron, Burst)
        torch.testing.assert_close(neuron.threshold, whole / 4)
        torch.testing.assert_close(neuron.initial, whole / 8)
    currents = torch.randn(30, generator=torch.Generator().manual_seed(8), dtype=torch.float64).tolist()
    v, expected = 0.125, []
    for x in currents:
        k = sum(v + x >= j / 4 for j in range(1, 5))
        v += x - k / 4
        expected.append(k / 4)
    assert run_neuron(Burst(threshold=f64(0.25), initial=f64(0.125), cap=4), currents)["o"] == expected


# D8: H-MT


def test_hybrid_multi_threshold() -> None:
    neuron = HybridMultiThreshold(threshold=f64(1.0), initial=f64(0.125), members=3)
    trace = run_neuron(neuron, [0.6] * 3)
    assert trace["o"] == [0.5, 0.75, 0.5]
    assert trace["v"] == pytest.approx([0.225, 0.075, 0.175])
    assert trace["s"] == [1, 2, 1]  # bits, not quanta


def test_communication_keeps_the_sum_of_potentials() -> None:
    neuron = HybridMultiThreshold(threshold=f64(1.0), initial=f64(0.125), members=3, communicate=True)
    x, seen = column([0.6, -0.9, 0.2]), []
    state = neuron.start(x[0], torch.zeros(1))
    for current in x:
        emission, state = neuron.step(current, state)
        row = (emission.output, state.sent_negative, state.v, state.v_negative)
        seen.append([value.item() for value in row])
    assert seen[0] == pytest.approx([0.5, 0.0, 0.225, 0.025])
    assert seen[1] == pytest.approx([0.0, 0.75, 0.075, 0.175])
    assert seen[2] == pytest.approx([0.25, 0.0, 0.025, 0.225])
    assert hmt.hmt().axes.initial.potential(f64(8.0)).item() == 0.5  # lambda_4 / 2


# D9: expectation compensation


def test_expectation_compensation_of_a_function() -> None:
    state, seen = start_pointwise(f64(0.0)), []
    for x in (1.0, 0.0, 0.0, 0.0):
        y, state = pointwise(torch.sigmoid, f64(x), state)
        seen.append(y.item())
    assert seen == pytest.approx([0.731059, 0.513860, 0.502792, 0.500995], abs=1e-6)
    assert sum(seen) / 4 == pytest.approx(torch.sigmoid(f64(0.25)).item())


def test_expectation_compensation_of_a_product() -> None:
    a, b = torch.randn(2, 12, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    state, total = start_product(a[0], b[0]), torch.zeros(5, dtype=torch.float64)
    for t, (left, right) in enumerate(zip(a, b, strict=True), start=1):
        y, state = product(left, right, state)
        total = total + y
        torch.testing.assert_close(total / t, a[:t].mean(0) * b[:t].mean(0))


# Controls


@pytest.mark.parametrize("units", ["raw", "normalised"])
@pytest.mark.parametrize("parameters", [CHAIN, RESIDUAL], ids=["chain", "residual"])
def test_resting_threshold_is_msats_own_at_rest(
    units: str, parameters: object, small: tuple[nn.Module, Tensor]
) -> None:
    model, inputs = small
    calibration = replace(Calibration(trace(model, inputs), inputs, 8), adaptive=parameters)  # type: ignore[arg-type]
    maxima = Maximum().fit(calibration)
    for V, theta in zip(maxima, msat_rest.Resting(units).fit(calibration), strict=True):  # type: ignore[arg-type]
        neuron = AdaptiveThreshold(threshold=V, parameters=parameters, units=units)  # type: ignore[arg-type]
        zero = torch.zeros(1, 1)
        resting = neuron.threshold_at(zero, AdaptiveState(zero, zero, zero, torch.zeros(1), 1))
        torch.testing.assert_close(resting.squeeze(), theta)


def test_resting_control_is_a_constant_fraction_in_normalised_units(small: tuple[nn.Module, Tensor]) -> None:
    network = converted(msat_rest.msat_rest_normalised(), small)
    maxima = Maximum().fit(Calibration(network.network, small[1], 8))
    for position, V in zip(network.network.sites, maxima, strict=True):
        neuron = network.stages[position].population
        assert isinstance(neuron, IntegrateAndFire)
        assert (neuron.threshold / V).item() == pytest.approx(0.667, abs=1e-3)  # methods.md A.3


def test_half_start_of_msat(small: tuple[nn.Module, Tensor]) -> None:
    neuron = converted(msat_rest.msat_half(), small).stages[0].population
    assert isinstance(neuron, AdaptiveThreshold)
    torch.testing.assert_close(neuron.initial, neuron.threshold / 2)
