"""The seed's baselines and the related work's methods: traces of methods.md B5-B9, C1-C8, and corrections with a known answer."""

import pytest
import torch
from torch import Tensor, nn

from baselines import burst as bursts
from baselines import calibration, constant, opt, rmp, spike_norm, tsc
from baselines import double_threshold as doubles
from baselines.bsnn import Bistable, bsnn, with_relays
from baselines.reference import REFERENCE
from baselines.snm import NeuronNorm, snm
from baselines.spicalib import SpikeCalibrator, spicalib
from baselines.spike_converter import PositionalNeuron, spike_converter
from baselines.tsc import TemporalSwitch, input_switches
from msat.adaptive import AdaptiveThreshold
from msat.backends import Folded, Step
from msat.balancing import Balanced
from msat.calibration import Calibration
from msat.conversion import convert
from msat.corrections import BiasCalibration, PotentialCalibration
from msat.errors import UserError
from msat.method import Axes, Correction, Initial, Method
from msat.network import Network, Relu, SpikingNetwork
from msat.neurons import Burst, IntegrateAndFire, Neuron
from msat.signed import SignedIntegrateAndFire
from msat.simulation import Chunk, Observer, simulate, tensor_batches
from msat.thresholds import Maximum, Moments, SquaredError, quantisation_error
from msat.tracing import trace
from msat.walk import Walk, walked_inputs
from msat.weight_calibration import WeightCalibration
from tests.conftest import f64, run_neuron

ONE = f64(1.0)
SIGNED_TEST = [1.25, -0.75, -1, -1, 0.25]
METHODS = [
    spike_norm.spike_norm(),
    rmp.rmp(),
    tsc.tsc(),
    opt.opt(),
    calibration.calibration_none(),
    calibration.calibration_light(),
    calibration.calibration_advanced(),
    calibration.calibration_weights(iterations=5),
    bursts.burst(),
    snm(),
    spicalib(),
    bsnn(),
    doubles.double_threshold(),
    spike_converter(),
]


class Run(Observer):
    """Keeps every stage's outputs, spikes, and the readout's scores at each step."""

    def __init__(self) -> None:
        self.outputs: dict[int, list[Tensor]] = {}
        self.spikes: dict[int, float] = {}

    def see(self, chunk: Chunk) -> None:
        output = chunk.traffic.output().flatten(2)
        self.outputs.setdefault(chunk.position, []).extend(output)
        total = chunk.traffic.spikes().double().sum().item()
        self.spikes[chunk.position] = self.spikes.get(chunk.position, 0.0) + total

    def rates(self, position: int) -> Tensor:
        """Return the mean output of one stage: [B, neurons]; all inputs in one batch."""
        return torch.stack(self.outputs[position]).mean(0)

    def scores(self) -> Tensor:
        return torch.stack(self.outputs[max(self.outputs)])


def run(network: SpikingNetwork, inputs: Tensor, steps: int) -> Run:
    observer = Run()
    simulate(network, tensor_batches(inputs, len(inputs)), steps, [observer], Folded())
    return observer


def conversion(method: Method, model: nn.Module, inputs: Tensor, steps: int) -> SpikingNetwork:
    return convert(method, Calibration(trace(model, inputs), inputs, steps, seed=3))


def identity_net(values: Tensor) -> tuple[Network, Tensor]:
    """Return a network of one site whose activations are the inputs [B, n] themselves, and a readout that passes them on."""
    n = values.shape[1]
    model = nn.Sequential(nn.Linear(n, n), nn.ReLU(), nn.Linear(n, n)).double()
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.copy_(torch.eye(n))
            layer.bias.zero_()
    return trace(model, values), values


# B5, B4


def test_balanced_thresholds_by_hand() -> None:
    """Site 1 gets .5 at every step, so theta_1 = .5; it spikes at every step (>=), or from step 2 on (>)."""
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    with torch.no_grad():
        for layer, weight, bias in ((model[0], 1.0, 0.0), (model[2], 3.0, 0.25), (model[4], 1.0, 0.0)):
            layer.weight.fill_(weight)
            layer.bias.fill_(bias)
    inputs = torch.tensor([[0.5], [0.25]], dtype=torch.float64)
    data = Calibration(trace(model, inputs), inputs, 4)
    assert [t.item() for t in Balanced(4).fit(data)] == [0.5, 1.75]
    assert [t.item() for t in Balanced(1, IntegrateAndFire(strict=True)).fit(data)] == [0.5, 0.25]
    assert [t.item() for t in rmp.rmp(beta=0.5).axes.threshold.fit(data)] == [0.25, 0.875]


def test_balancing_needs_a_positive_current() -> None:
    network, _ = identity_net(torch.ones(2, 2, dtype=torch.float64))
    inputs = -torch.ones(2, 2, dtype=torch.float64)
    with pytest.raises(UserError, match="gets no positive current in 4 steps"):
        Balanced(4).fit(Calibration(network, inputs, 4))


def test_balanced_thresholds_are_the_largest_currents_of_the_spiking_network(small: tuple[nn.Module, Tensor]) -> None:
    model, inputs = small
    many = torch.cat([inputs, inputs.flip(-1)])
    network = convert(rmp.rmp(), Calibration(trace(model, many), many, 16))
    walk = Walk(network.network, many, 256)
    for position, stage in enumerate(network.stages[:-1]):
        currents = walk.currents(stage.stage)
        if isinstance(stage.population, Neuron):
            torch.testing.assert_close(stage.population.threshold, currents.amax())
        walk.send(position, walk.response(stage, currents))


def test_balancing_takes_the_first_128_inputs(small: tuple[nn.Module, Tensor]) -> None:
    model, inputs = small
    first = torch.cat([inputs] * 6)[:128]
    more = torch.cat([first, 100 * inputs])
    one, other = (Balanced(4).fit(Calibration(trace(model, inputs), part, 4)) for part in (first, more))
    assert [t.item() for t in one] == [t.item() for t in other]


def test_rmp_with_maximum_thresholds_is_the_constant_maximum(small: tuple[nn.Module, Tensor]) -> None:
    one = run(conversion(rmp.rmp(balancing="maximum"), *small, 16), small[1], 16)
    two = run(conversion(constant.maximum(), *small, 16), small[1], 16)
    assert torch.equal(one.scores(), two.scores())


# B6


@pytest.mark.parametrize(
    ("p", "events"), [(0.5, [(1, 1), (4, -1)]), (1, [(1, 1), (8, -1)]), (-0.3, [(1, -1), (3, 1)]), (0.1, [])]
)
def test_switch_code_of_a_pixel(p: float, events: list[tuple[int, int]]) -> None:
    assert input_switches(p, 8) == events


def test_switching_counts_changes_of_the_spike_train() -> None:
    currents = [0, 1, 1, 1, 0, 1]
    assert run_neuron(IntegrateAndFire(threshold=ONE), currents)["s"] == currents
    trace = run_neuron(TemporalSwitch(threshold=ONE), currents)
    assert trace["o"] == currents
    assert trace["s"] == [0, 1, 0, 0, 1, 1]  # 4 spikes, 3 events


def test_switching_changes_events_only(small: tuple[nn.Module, Tensor]) -> None:
    one = run(conversion(rmp.rmp(), *small, 24), small[1], 24)
    two = run(conversion(tsc.tsc(), *small, 24), small[1], 24)
    assert torch.equal(one.scores(), two.scores())
    spikes = torch.stack(one.outputs[0]).ne(0).double()
    changes = spikes.diff(dim=0, prepend=torch.zeros_like(spikes[:1])).abs().sum().item()
    assert (one.spikes[0], two.spikes[0]) == (spikes.sum().item(), changes)


# B7


@pytest.mark.parametrize(("shift", "spikes", "mean"), [(0.0, [0, 0, 1, 0], 0.25), (0.125, [0, 1, 0, 1], 0.5)])
def test_input_shift(shift: float, spikes: list[int], mean: float) -> None:
    trace = run_neuron(IntegrateAndFire(threshold=ONE), [0.375 + shift] * 4)  # theta / 2T = .125
    assert trace["s"] == spikes
    assert sum(trace["o"]) / 4 == mean
    assert trace["v"][-1] == (0 if shift else 0.5)


def test_opt_adds_the_shift_at_conversion() -> None:
    network, inputs = identity_net(torch.tensor([[0.375, 1.0]], dtype=torch.float64))
    site = convert(opt.opt(), Calibration(network, inputs, 4)).stages[0]
    assert site.offset is not None
    assert site.offset.item() == 0.125


# B8


@pytest.mark.parametrize(("steps", "cap"), [(1, 1), (7, 1), (32, 4)])
def test_fast_quantisation_error_equals_the_formula(steps: int, cap: int) -> None:
    rows = torch.randn(5, 400, generator=torch.Generator().manual_seed(9), dtype=torch.float64).clamp(min=0)
    theta = rows.amax(1) * torch.tensor([1.0, 0.8, 0.5, 0.2, 0.06], dtype=torch.float64)
    error = Moments(rows).quantisation_error(theta, steps, cap) / 400
    torch.testing.assert_close(error, quantisation_error(rows, theta.unsqueeze(1), steps, cap))


def test_calibration_none_is_opt(small: tuple[nn.Module, Tensor]) -> None:
    one = run(conversion(calibration.calibration_none(), *small, 8), small[1], 8)
    two = run(conversion(opt.opt(), *small, 8), small[1], 8)
    assert torch.equal(one.scores(), two.scores())


def halves(steps: int) -> tuple[SpikingNetwork, Calibration]:
    """Return a network whose site holds .5 and 1; without shift the threshold of 1 gives exactly these from 2 steps on."""
    network, inputs = identity_net(torch.tensor([[0.5, 1.0], [0.46875, 1.0]], dtype=torch.float64))
    data = Calibration(network, inputs, steps)
    return convert(constant.maximum(), data), data


def test_bias_step_is_the_missing_mean() -> None:
    """T = 16: .46875 * 16 = 7.5 gives 7 spikes, so the first channel misses (0 + .03125) / 2 on average."""
    network, data = halves(16)
    offset = BiasCalibration().apply(network, data).stages[0].offset
    assert offset is not None
    assert offset.tolist() == [0.03125 / 2, 0.0]


def test_bias_calibration_adds_to_the_offset() -> None:
    network, data = halves(16)
    network = network.with_stage(0, offset=f64(-0.25))  # 4 and 3.5 instead of 8 and 7.5, 12 instead of 16
    offset = BiasCalibration().apply(network, data).stages[0].offset
    assert offset is not None
    assert offset.tolist() == [-0.25 + (0.25 + 0.28125) / 2, -0.25 + 0.25]


def test_potential_step_is_the_missing_charge() -> None:
    """methods.md B8: ANN .5, SNN .4375, T = 8 -> v(0) = .5; here at T = 16 the charge is 16 times the missing mean."""
    network, data = halves(16)
    population = PotentialCalibration().apply(network, data).stages[0].population
    assert isinstance(population, Neuron)
    assert population.initial.tolist() == [16 * 0.03125 / 2, 0.0]
    assert 8 * (0.5 - 0.4375) == 0.5


def test_later_layers_see_corrected_spikes(small: tuple[nn.Module, Tensor]) -> None:
    """Each site's offset is what is still missing when all sites before it are mended: found again one by one."""
    model, inputs = small
    model, inputs = model.double(), inputs.double()
    plain = conversion(calibration.calibration_none(), model, inputs, 12)
    mended = BiasCalibration().apply(plain, Calibration(plain.network, inputs, 12))
    for site in plain.network.sites:
        partly = mended.with_stage(site, offset=plain.stages[site].offset)
        rates = run(partly.prefix(site), inputs, 12).rates(site)
        target = next(a for p, _, a in plain.network.trace(inputs) if p == site)
        missing = (target.flatten(1) - rates).view(target.shape).mean((0, 2, 3))
        before, after = plain.stages[site].offset, mended.stages[site].offset
        assert before is not None
        assert after is not None
        torch.testing.assert_close((after - before).flatten(), missing)


def test_walk_equals_the_simulator(small: tuple[nn.Module, Tensor]) -> None:
    model, inputs = small
    network = conversion(opt.opt(), model, inputs, 9)
    reference = run(network, inputs, 9)
    walk = Walk(network.network, inputs, 9)
    for position, stage in enumerate(network.stages):
        output = walk.response(stage, walk.currents(stage.stage))
        torch.testing.assert_close(output.flatten(2), torch.stack(reference.outputs[position]))
        walk.send(position, output)


def test_walk_takes_fewer_inputs_for_more_steps(small: tuple[nn.Module, Tensor]) -> None:
    data = Calibration(trace(*small), small[1].repeat(20, 1, 1, 1), 1)
    counts = [len(walked_inputs(data.network, data, steps)) for steps in (8, 1 << 14, 1 << 20)]
    assert counts == [256, (1 << 27) // (6 * 36 << 14), 8]


def disturbed(model: nn.Module, inputs: Tensor, steps: int) -> SpikingNetwork:
    """Return a network whose second site lacks a fifth of its threshold at every step: an error that corrections can mend."""
    network = conversion(calibration.calibration_none(), model, inputs, steps)
    site = network.stages[1]
    assert isinstance(site.population, Neuron)
    return network.with_stage(1, offset=-0.2 * site.population.threshold)


@pytest.mark.parametrize(
    "correction", [BiasCalibration(), PotentialCalibration(), WeightCalibration(80, 1e-2)], ids=str
)
def test_corrections_mend_a_known_error(correction: Correction, small: tuple[nn.Module, Tensor]) -> None:
    model, inputs = small
    network = disturbed(model, inputs, 8)
    before = {p: [w.clone() for w in s.stage.synapses.parameters()] for p, s in enumerate(network.stages)}
    mended = correction.apply(network, Calibration(network.network, inputs, 8))
    target = next(a for p, _, a in network.network.trace(inputs) if p == 1).flatten(1)
    plain, better = ((run(n.prefix(1), inputs, 8).rates(1) - target).square().mean() for n in (network, mended))
    assert better < 0.7 * plain
    for p, stage in enumerate(network.stages):  # the network that was given stays as it was
        assert all(torch.equal(a, b) for a, b in zip(before[p], stage.stage.synapses.parameters(), strict=True))


# B9


def test_burst_of_one_is_integrate_and_fire_end_to_end(small: tuple[nn.Module, Tensor]) -> None:
    one = run(conversion(bursts.burst(cap=1, percentile=99.9, nonzero=True), *small, 20), small[1], 20)
    two = run(conversion(constant.percentile(), *small, 20), small[1], 20)
    assert torch.equal(one.scores(), two.scores())
    assert one.spikes[0] == two.spikes[0]


def test_burst_counts_every_spike(small: tuple[nn.Module, Tensor]) -> None:
    network = conversion(bursts.burst(percentile=50.0), *small, 12)
    population = network.stages[0].population
    assert isinstance(population, Burst)
    result = run(network, small[1], 12)
    counts = torch.stack(result.outputs[0]) / population.threshold
    assert counts.max() > 1
    assert result.spikes[0] == counts.round().sum().item()


# C1


def test_half_start_at_conversion() -> None:
    network, inputs = identity_net(torch.tensor([[0.375, 1.0]], dtype=torch.float64))
    spiking = convert(constant.half_start(), Calibration(network, inputs, 8))
    assert run(spiking, inputs, 8).rates(0).tolist() == [[3 / 8, 1.0]]
    assert run(spiking, inputs, 4).rates(0).tolist() == [[0.5, 1.0]]


# C3


def test_bistable_neuron_alternates() -> None:
    """K = 2, theta = 1, x = .75: gathers 1.5, sends one spike, keeps .5; then 2, two spikes."""
    neuron = Bistable(threshold=ONE, half=2)
    trace = run_neuron(neuron, [0.75] * 8)
    assert trace["v"] == [0.75, 1.5, 0.5, 0.5, 1.25, 2.0, 1.0, 0.0]
    assert trace["s"] == [0, 0, 1, 0, 0, 0, 1, 1]
    assert run_neuron(Bistable(threshold=ONE, half=2, depth=1), [0.75] * 4)["v"] == [0.0, 0.0, 0.75, 1.5]


def test_relays_keep_the_answers_and_the_phases(small: tuple[nn.Module, Tensor]) -> None:
    model, inputs = small
    network = trace(model, inputs)
    relayed = with_relays(network)
    torch.testing.assert_close(relayed(inputs), network(inputs))
    assert len(relayed.sites) == len(network.sites)  # conv1 -> conv2 + x: both branches are one site deep
    deep = trace(Deep(), inputs)
    assert len(with_relays(deep).sites) == len(deep.sites) + 1
    torch.testing.assert_close(with_relays(deep)(inputs), deep(inputs))


class Deep(nn.Module):
    """A block of two convolutions with a shortcut that skips a site."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        x = (self.c(self.b(x).relu()) + x).relu()
        return self.fc(x.flatten(1))


def test_bistable_network_tends_to_the_ann(small: tuple[nn.Module, Tensor]) -> None:
    _, inputs = small
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = Deep()
    steps = 2048
    network = conversion(bsnn(percentile=100.0), model, inputs, steps)
    scores = run(network, inputs[:4], steps).scores()[-1] / (steps / 2)
    assert (scores - model(inputs[:4])).abs().max() < 0.02


# C4


@pytest.mark.parametrize(
    ("spikes", "passed"),
    [([0, 1, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, -1, 0, 0]), ([0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1, 1])],
)
def test_calibrator_cancels_spikes_of_silent_neurons(spikes: list[float], passed: list[float]) -> None:
    neuron = SpikeCalibrator(allowance=2).bind(f64(2.0), f64(0.0))
    result = run_neuron(neuron, [2 * s for s in spikes])
    assert result["o"] == [2 * s for s in passed]
    assert result["s"] == [abs(s) for s in passed]
    off = SpikeCalibrator(allowance=0).bind(f64(2.0), f64(0.0))
    assert run_neuron(off, [2 * s for s in spikes])["o"] == [2 * s for s in spikes]


# C5, C8


def test_signed_neurons() -> None:
    ungated = run_neuron(SignedIntegrateAndFire(threshold=ONE, gated=False), SIGNED_TEST)
    assert ungated["o"] == [1, 0, -1, -1, 0]
    assert ungated["v"] == [0.25, -0.5, -0.5, -0.5, -0.25]
    gated = run_neuron(SignedIntegrateAndFire(threshold=ONE), SIGNED_TEST)
    assert gated["o"] == [1, 0, -1, 0, 0]
    assert gated["v"] == [0.25, -0.5, -0.5, -1.5, -1.25]


def test_augmented_spikes_take_back_what_was_sent() -> None:
    result = run_neuron(SignedIntegrateAndFire(threshold=ONE, cap=4), [2.5, -0.25, -5, 9])
    assert result["o"] == [2, 0, -2, 4]
    assert result["s"] == [2, 0, 2, 4]
    assert result["v"] == [0.5, 0.25, -2.75, 2.25]


def test_neuron_wise_thresholds_with_guard() -> None:
    network, inputs = identity_net(torch.tensor([[1.0, 0.0, 4.0], [2.0, -1.0, 3.0]], dtype=torch.float64))
    (theta,) = NeuronNorm(100.0).fit(Calibration(network, inputs, 4))
    assert theta.tolist() == [2.0, 4.0, 4.0]


# C6


def test_positional_code() -> None:
    neuron = PositionalNeuron(threshold=ONE)
    currents = torch.full((3, 1, 1), 0.625, dtype=torch.float64)
    emission, _ = neuron.scan(currents, neuron.start(currents[0], torch.zeros(1)))
    assert emission.spikes().flatten().tolist() == [1, 0, 1]
    u = 0.0
    for s in emission.spikes().flatten().tolist():
        u = 2 * u + s
    assert u == 5
    assert emission.output.mean().item() == 0.625 == u / 2**3


def test_positional_code_clips_and_refuses_base_one() -> None:
    neuron = PositionalNeuron(threshold=ONE)
    currents = torch.tensor([[5.0], [-3.0]], dtype=torch.float64).expand(4, 2, 1)
    emission, _ = neuron.scan(currents, neuron.start(currents[0], torch.zeros(2)))
    assert emission.output.mean(0).flatten().tolist() == [15 / 16, 0]
    with pytest.raises(UserError, match="base above 1 and at most 2, got 1"):
        spike_converter(base=1)


@pytest.mark.parametrize("steps", [1, 5, 12])
def test_positional_digits_miss_less_than_the_last_of_them(steps: int) -> None:
    mean = torch.rand(50, generator=torch.Generator().manual_seed(steps), dtype=torch.float64)
    currents = mean.expand(steps, 1, 50)
    emission, _ = PositionalNeuron(threshold=ONE).scan(currents, ())
    missing = mean - emission.output.mean(0)
    assert (missing >= -1e-12).all()
    assert (missing < 2.0**-steps).all()


def test_positional_network_equals_binary_fractions(small: tuple[nn.Module, Tensor]) -> None:
    model, inputs = small
    model, inputs = model.double(), inputs.double()
    scores = run(conversion(spike_converter(), model, inputs, 16), inputs, 16).scores()[-1] / 16
    assert (scores - model(inputs)).abs().max() < 1e-3


# All of them


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_chunks_batches_and_charge(method: Method, small: tuple[nn.Module, Tensor]) -> None:
    model, inputs = small
    model, inputs = model.double(), inputs.double()
    network = conversion(method, model, inputs, 11)
    whole, parts = run(network, inputs, 11), Run()
    simulate(network, tensor_batches(inputs[:1], 1), 11, [parts], Step() if method.causal else Folded())
    torch.testing.assert_close(whole.scores()[:, :1], parts.scores())
    assert torch.isfinite(whole.scores()).all()
    stage = network.stages[0]
    assert isinstance(stage.stage.rule, Relu)
    x = torch.randn(11, 3, *network.network.shapes()[0], generator=torch.Generator().manual_seed(5)).double()
    start = stage.population.start(x[0], torch.arange(3))
    emission, state = stage.population.scan(x, start)
    # BSNN ignores half of its input, SpiCalib refunds nothing, SpikeConverter drops what lies behind the last digit.
    if method.name not in ("bsnn", "spicalib", "spike-converter"):
        torch.testing.assert_close(x.sum(0) + start.v, emission.output.sum(0) + state.v)


def test_illegal_combinations_are_refused() -> None:
    signed = SignedIntegrateAndFire()
    with pytest.raises(UserError, match="MSAT's dynamic threshold reads the potential and current of a rate code"):
        Axes(neuron=AdaptiveThreshold(), coding="differential")
    for correction in (BiasCalibration(), PotentialCalibration(), WeightCalibration()):
        with pytest.raises(UserError, match=f"{type(correction).__name__} needs rate coding: .* drop one of the two"):
            Axes(neuron=signed, coding="differential", corrections=(correction,))
        assert Axes(threshold=SquaredError(), corrections=(correction,)).corrections == (correction,)
    with pytest.raises(UserError, match="round twice"):
        Axes(threshold=Maximum(), shift=True, initial=Initial(0.5))
    with pytest.raises(UserError, match="needs a signed neuron"):
        Axes(neuron=Burst(), coding="differential")


def test_reference_rows_are_percentages() -> None:
    assert {r.dataset for r in REFERENCE} <= {"cifar10", "cifar100", "imagenet"}
    assert all(50 < r.row.snn < 100 and r.row.source for r in REFERENCE)
