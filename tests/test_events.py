"""The event backend against the plain step loop: every stage on equal spikes, end to end, and independent of how work is cut."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines import (
    bsnn,
    burst,
    calibration,
    constant,
    dcgs,
    double_threshold,
    group_neuron,
    hmt,
    ltb,
    msat,
    opt,
    parallel,
    rmp,
    snm,
    spicalib,
    spike_converter,
    spike_norm,
    srp,
    tsc,
)
from baselines.spike_converter import PositionalNeuron
from baselines.srp import LastStates
from msat.adaptive import AdaptiveThreshold
from msat.backends import Folded, Step, events
from msat.backends.events import Events, EventsSession
from msat.backends.events_cost import Cost
from msat.backends.events_plan import Chain, Convolution
from msat.backends.events_pools import CurrentPoolRunner, PoolRunner
from msat.backends.events_stages import FusedRunner, WrittenRunner
from msat.backends.events_torch import TorchRunner
from msat.backends.events_window import WindowRunner
from msat.backends.kernels.structs import GATHER, SCAN, SCATTER
from msat.calibration import Calibration
from msat.conversion import convert
from msat.errors import UserError
from msat.method import Method
from msat.network import Readout, Relu, SpikingNetwork
from msat.neurons import Emission, IntegrateAndFire
from msat.observers import Accuracy, Activity, Diagnostics
from msat.operations import fan_out
from msat.simulation import simulate, tensor_batches
from msat.tracing import trace
from tests.conftest import settle_norms

METHODS = [
    group_neuron.group_neuron(), hmt.hmt(), hmt.hmt(members=8), dcgs.dcgs_rate(), dcgs.dcgs_single(),
    constant.maximum(), constant.half_start(), msat.msat(), msat.msat_normalised(), msat.dtt(), msat.det(),
    msat.msat_sc(), msat.msat_sc(reset="gated"), constant.maximum_hard(), burst.burst(), rmp.rmp(), opt.opt(), dcgs.dcgs(),
    spike_norm.spike_norm(), double_threshold.double_threshold(), snm.snm(), spicalib.spicalib(), srp.srp(), tsc.tsc(),
    calibration.calibration_light(), calibration.calibration_advanced(), ltb.ltb(iterations=20), ltb.ltb(iterations=20, exact_pool=True),
    constant.maximum(pool="step"), bsnn.bsnn(), hmt.hmt(communicate=True), msat.msat(det_input="dm"),
    parallel.parallel(),
]  # fmt: skip
ids: Callable[[Any], str] = lambda value: getattr(value, "name", str(value))  # noqa: E731


class Waves(nn.Module):
    """A chain in one dimension with strides, max-pools and a global average."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(1, 20, 9, 4), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(20, 33, 3), nn.ReLU(), nn.MaxPool1d(4),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(33, 5),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Overlaps(nn.Module):
    """Max-pools whose windows overlap, with padding and dilation, behind convolutions of channels that fill no tile."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 21, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(21, 9, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2, 1, dilation=2), nn.Flatten(), nn.Linear(9 * 4, 5),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Averages(nn.Module):
    """Average pools before a convolution and before two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 10, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(10, 130, 3, padding=2, dilation=2),
            nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(130 * 4, 40), nn.ReLU(), nn.Linear(40, 5),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


@pytest.fixture(params=["small", "waves", "averages", "overlaps"])
def network(request: pytest.FixtureRequest, small: tuple[nn.Module, Tensor]) -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        if request.param == "waves":
            return Waves().eval(), torch.randn(7, 1, 150)
        if request.param in {"averages", "overlaps"}:
            inputs = torch.randn(7, 3, 8, 8)
            return settle_norms(Averages() if request.param == "averages" else Overlaps(), inputs), inputs
    return small[0], small[1][:7]


def converted(method: Method, network: tuple[nn.Module, Tensor], steps: int = 21) -> SpikingNetwork:
    model, inputs = network
    with torch.no_grad():
        return convert(method, Calibration(trace(model, inputs), inputs, steps))


@pytest.fixture(params=[True, False], ids=["events", "dense"], name="one_way")
def force_one_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Force the event kernels, or the dense fallback, wherever both are possible."""
    monkeypatch.setattr(Cost, "dense", lambda _: 1e9 if request.param else 0.0)


@pytest.mark.usefixtures("one_way")
@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_every_stage_agrees_on_equal_spikes(method: Method, network: tuple[nn.Module, Tensor]) -> None:
    """Both backends get the event backend's own traffic, so that a spike flipped by float order does not spread."""
    spiking, inputs = converted(method, network), network[1]
    events, plain = Events().open(spiking), Step().open(spiking)
    samples, states = torch.arange(len(inputs)), [[None] * len(spiking.stages) for _ in range(2)]
    largest = [1e-6] * len(spiking.stages)
    for first, count in ((0, 16), (16, 5)):
        sent: dict[int, Any] = {
            -1 - k: events.constant(c, first, count) for k, c in enumerate(spiking.network.front(inputs))
        }
        for position, stage in enumerate(spiking.stages):
            sources = [sent[source] for source in stage.stage.sources]
            results = []
            for number, session in enumerate((events, plain)):
                traffic, states[number][position] = session.advance(
                    position, sources, states[number][position], samples, first, count
                )
                results.append(traffic)
            largest[position] = max(largest[position], results[1].output().abs().max().item())
            compare(results[0].output(), results[1].output(), spiking, position, largest[position])
            sent[position] = results[0]


def compare(got: Tensor, expected: Tensor, spiking: SpikingNetwork, position: int, largest: float) -> None:
    """Outputs are equal to rounding, but for at most 0.3 % of the units, which met a threshold (or a tie of a pool) exactly.

    Rounding is that of the largest output so far: differential coding sends ever smaller differences of what has grown.
    """
    off = (got - expected).abs() > 2e-5 * largest
    neurons = off.any(0)
    allowed = 0 if isinstance(spiking.stages[position].stage.rule, Readout) else 0.003 * neurons.numel()
    assert int(neurons.sum()) <= allowed, f"{int(neurons.sum())} of {neurons.numel()} neurons at stage {position}"


@pytest.mark.parametrize("method", [constant.maximum(), msat.msat(), msat.msat_sc()], ids=ids)
@pytest.mark.parametrize(("chunk", "batch"), [(1, 7), (5, 7), (16, 3), (None, 2)])
def test_results_do_not_depend_on_chunk_or_batch(
    method: Method, network: tuple[nn.Module, Tensor], chunk: int | None, batch: int
) -> None:
    spiking, inputs = converted(method, network), network[1]
    whole, cut = (counts(spiking, inputs, Events(c), b) for c, b in ((21, 7), (chunk, batch)))
    assert whole == cut


def counts(spiking: SpikingNetwork, inputs: Tensor, backend: Any, batch: int, steps: int = 21) -> list[Any]:
    """Return correct answers per step, activity and diagnosis of a run."""
    labels = torch.arange(len(inputs)) % 4
    accuracy = Accuracy(labels, spiking.network(inputs).argmax(1), steps)
    activity, diagnostics = Activity(fan_out(spiking.network), steps), Diagnostics(spiking.network, steps)
    simulate(spiking, tensor_batches(inputs, batch), steps, [accuracy, activity, diagnostics], backend)
    diagnosis = [(s.sin, s.sin_spikes, s.fired_positive) for s in diagnostics.sites.values()]
    return [accuracy.correct.tolist(), accuracy.agree.tolist(), activity.sites(), diagnosis]


@pytest.mark.parametrize("method", [constant.maximum(), burst.burst()], ids=ids)
def test_observers_count_what_they_count_in_the_step_loop(method: Method, small: tuple[nn.Module, Tensor]) -> None:
    spiking, inputs = converted(method, small), small[1]
    (correct, agree, sites, diagnosis), expected = (counts(spiking, inputs, b, 24) for b in (Events(), Step()))
    assert (correct, agree) == tuple(expected[:2])
    for position, site in sites.items():
        if isinstance(spiking.stages[position].stage.rule, Relu):
            assert site == expected[2][position]
    assert diagnosis == expected[3]


def test_end_to_end_within_the_noise_of_memory_formats(small: tuple[nn.Module, Tensor]) -> None:
    """The yardstick is how far the step loop differs from itself when convolutions sum in another order."""
    spiking, inputs = converted(msat.msat(), small), small[1]
    scores = [final(spiking, inputs, backend) for backend in (Step(), Events())]
    other = final(spiking, inputs.contiguous(memory_format=torch.channels_last), Step())
    noise = (scores[0] - other).abs().max()
    assert (scores[0] - scores[1]).abs().max() <= 3 * noise + 1e-4 * scores[0].abs().max()


def final(spiking: SpikingNetwork, inputs: Tensor, backend: Any, steps: int = 32) -> Tensor:
    kept: list[Tensor] = []

    class Last:
        def see(self, chunk: Any) -> None:
            if chunk.position == len(spiking.stages) - 1 and chunk.first + len(chunk.traffic.output()) == steps:
                kept.append(chunk.traffic.output()[-1])

        def batch_done(self, inputs: Tensor, samples: Tensor) -> None:
            pass

    simulate(spiking, tensor_batches(inputs, len(inputs)), steps, [Last()], backend)  # type: ignore[list-item]
    return torch.cat(kept)


def test_each_stage_gets_the_fastest_way_it_allows(small: tuple[nn.Module, Tensor]) -> None:
    methods = (constant.maximum_hard(), msat.msat(), burst.burst(), spicalib.spicalib())
    kinds = [[type(r) for r in session(method, small).runners] for method in methods]
    assert kinds[0] == kinds[1] == kinds[2] == [FusedRunner, FusedRunner, PoolRunner, TorchRunner]
    assert kinds[3] == [WrittenRunner, WrittenRunner, PoolRunner, TorchRunner]
    differential = [type(r) for r in session(dcgs.dcgs(), small).runners]
    assert differential[:3] == [FusedRunner, CurrentPoolRunner, FusedRunner]


def session(method: Method, network: tuple[nn.Module, Tensor]) -> EventsSession:
    opened = Events().open(converted(method, network))
    assert isinstance(opened, EventsSession)
    return opened


@pytest.mark.parametrize("steps", [1, 16, 40])
@pytest.mark.parametrize("method", [parallel.parallel(), spike_converter.spike_converter()], ids=lambda m: m.name)
def test_a_window_over_the_whole_run_is_one_pass_of_the_synapses(
    method: Method, steps: int, small: tuple[nn.Module, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    spiking, inputs = converted(method, small, steps), small[1]
    # Digits far behind the point are rounding noise, so it is the scores that must agree.
    expected = final(spiking, inputs, Step(), steps)
    for kind in (WrittenRunner, TorchRunner):
        runners = Events().open(spiking).runners  # type: ignore[attr-defined]
        assert [type(r) for r in runners] == [WindowRunner, WindowRunner, PoolRunner, TorchRunner]
        assert [type(r.sender) for r in runners[:2]] == [kind, kind]
        torch.testing.assert_close(final(spiking, inputs, Events(), steps), expected, rtol=1e-4, atol=1e-4)
        monkeypatch.setattr(events, "write", lambda *_: None)


class Pairs(parallel.ParallelNeuron):
    """A neuron whose spikes count twice."""

    def send(self, state: Any) -> tuple[Emission, Any]:
        emission, state = super().send(state)
        return Emission(emission.output, 2 * emission.spikes()), state


def test_a_window_counts_the_spikes_that_its_neuron_counts(small: tuple[nn.Module, Tensor]) -> None:
    spiking = converted(parallel.parallel(), small)
    neuron: Any = spiking.stages[0].population
    twice = Pairs(surplus=neuron.surplus).bind(neuron.threshold, neuron.initial)
    once, doubled = (
        spikes_of(spiking.with_stage(0, population=population), small[1], Step()) for population in (neuron, twice)
    )
    assert doubled == 2 * once > 0
    assert spikes_of(spiking.with_stage(0, population=twice), small[1], Events()) == doubled


def spikes_of(spiking: SpikingNetwork, inputs: Tensor, backend: Any) -> float:
    """Return the spikes of the first stage."""
    activity = Activity(fan_out(spiking.network), 21)
    simulate(spiking, tensor_batches(inputs, len(inputs)), 21, [activity], backend)
    return activity.sites()[0].spikes[-1]


class LastFirst(PositionalNeuron):
    """A neuron whose digits depend on when its currents arrive."""

    def scan(self, currents: Tensor, state: Any) -> tuple[Emission, Any]:
        emission, state = super().scan(currents, state)
        return Emission(emission.output + currents.flip(0).relu()), state


def test_a_window_that_reads_more_than_a_sum_gets_every_current(small: tuple[nn.Module, Tensor]) -> None:
    spiking = converted(spike_converter.spike_converter(), small)
    for position in (0, 1):
        neuron: Any = spiking.stages[position].population
        spiking = spiking.with_stage(position, population=LastFirst().bind(neuron.threshold, neuron.initial))
    assert Events().open(spiking).runners[1] is None  # type: ignore[attr-defined]
    for backend in (Events(), Step()):
        torch.testing.assert_close(final(spiking, small[1], backend), final(spiking, small[1], Folded()))


@pytest.mark.usefixtures("one_way")
@pytest.mark.parametrize("shape", [(), (6, 1, 1), (6, 6, 6), (1, 6, 1, 1), (1, 6, 6, 6)], ids=str)
@pytest.mark.parametrize("kind", [IntegrateAndFire, AdaptiveThreshold])
def test_thresholds_and_potentials_per_layer_channel_and_neuron(
    small: tuple[nn.Module, Tensor], shape: tuple[int, ...], kind: type
) -> None:
    spiking, inputs = converted(constant.maximum(), small), small[1]
    make = torch.Generator().manual_seed(0)
    for position in (0, 1):
        theta = 1 + torch.rand(shape, generator=make)
        neuron = kind().bind(theta, 0.3 * theta)
        spiking = spiking.with_stage(position, population=neuron, offset=torch.rand(shape, generator=make) * 0.1)
    assert all(isinstance(r, FusedRunner) for r in Events().open(spiking).runners[:2])  # type: ignore[attr-defined]
    torch.testing.assert_close(final(spiking, inputs, Events()), final(spiking, inputs, Step()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", [constant.maximum(), msat.msat()], ids=ids)
def test_a_start_state_is_taken_over(method: Method, small: tuple[nn.Module, Tensor]) -> None:
    spiking, inputs = converted(method, small), small[1]

    class Warm:
        def states(self, network: SpikingNetwork, inputs: Tensor, samples: Tensor, observe: Any) -> list[Any]:
            current = network.network.stages[0].synapses(*network.network.front(inputs))
            state: Any = network.stages[0].population.start(current, samples)
            _, state = network.stages[0].population.scan(current.expand(5, *current.shape), state)
            return [state, *[None] * (len(network.stages) - 1)]

    spiking = replace(spiking, warm_up=Warm())  # type: ignore[arg-type]
    torch.testing.assert_close(final(spiking, inputs, Events()), final(spiking, inputs, Step()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", [constant.maximum(), dcgs.dcgs_rate()], ids=ids)
def test_accounts_of_a_warm_up_pass_are_refused(method: Method, small: tuple[nn.Module, Tensor]) -> None:
    spiking, inputs = converted(method, small), small[1]

    class Warm:
        def states(self, network: SpikingNetwork, inputs: Tensor, samples: Tensor, observe: Any) -> list[Any]:
            last = LastStates(lambda _: None)
            simulate(replace(network, warm_up=None), [(inputs, samples)], 3, [last], Folded())
            return [last.states[position] for position in range(len(network.stages))]

    with pytest.raises(UserError, match="accounts of a warm-up pass"):
        final(replace(spiking, warm_up=Warm()), inputs, Events())  # type: ignore[arg-type]


def test_the_kernel_is_chosen_by_density() -> None:
    wide = Cost(
        [Chain(0, (128, 16, 16), 2, convolution=Convolution(torch.zeros(128, 128, 3, 3)))], (128, 16, 16), 128, 16
    )
    narrow = Cost([Chain(0, (16, 32, 32), 2, convolution=Convolution(torch.zeros(16, 16, 3, 3)))], (16, 32, 32), 16, 16)
    shares = (0.0, 0.05, 1.0)
    assert [wide.cheapest([share * 128 * 256]) for share in shares] == [GATHER, GATHER, SCAN]
    assert [narrow.cheapest([share * 16 * 1024]) for share in shares] == [SCATTER, SCATTER, SCAN]


def test_folded_gives_the_same_scores(network: tuple[nn.Module, Tensor]) -> None:
    spiking = converted(constant.maximum(), network)
    torch.testing.assert_close(
        final(spiking, network[1], Events()), final(spiking, network[1], Folded()), rtol=1e-4, atol=1e-4
    )
