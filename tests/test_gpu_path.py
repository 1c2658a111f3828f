"""What `folded` does on a GPU, on the CPU: kernels by torch.compile, recordings (their bookkeeping), weights in bf16 terms."""

import dataclasses
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from baselines import calibration, constant, dcgs, msat
from benchmarks.bench import gpu_batch
from benchmarks.cells import SHIPPED
from benchmarks.measure import diagnosed_at_once
from benchmarks.speed.subjects import SPECS
from msat.adaptive import AdaptiveThreshold, SpikeConfidence
from msat.backends import Backend, Folded, Step, choose, fused
from msat.backends.base import Session
from msat.backends.folded import FoldedSession
from msat.backends.graphs import Recorder, Replayed
from msat.backends.kernels import NoCompiler, library
from msat.backends.split import Split, split_bf16
from msat.backends.trees import changed, tensors
from msat.calibration import Calibration
from msat.conversion import convert
from msat.errors import UserError
from msat.method import Method
from msat.multithreshold import MultiThreshold
from msat.network import SpikingNetwork
from msat.neurons import Burst, Emission, IntegrateAndFire, Population
from msat.task import CHAIN
from msat.tracing import trace
from tests.conftest import settle_norms
from tests.test_events import Averages
from tests.test_simulation import run

# PyTorch's compiler imports a module of PyTorch that uses what PyTorch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
STEPS = 2
"""Steps in a kernel here; compiling takes a second for each few of them."""


@pytest.fixture(scope="module", name="compiler")
def a_compiler() -> Iterator[None]:
    """Compile without vector instructions, whose search takes 20 s; skip where nothing compiles C++."""
    try:
        library()
    except NoCompiler as reason:
        pytest.skip(str(reason))
    with inductor.patch({"cpp.vec_isa_ok": False}):
        yield


def neurons() -> list[Population]:
    theta = torch.tensor(0.8)
    return [
        IntegrateAndFire(threshold=theta), Burst(threshold=theta), AdaptiveThreshold(threshold=theta, parameters=CHAIN),
        MultiThreshold(threshold=theta),
    ]  # fmt: skip


@torch.no_grad()
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("population", neurons(), ids=lambda p: type(p).__name__)
def test_kernels_equal_steps(population: Population) -> None:
    """Two layers of other sizes in five steps: two kernels, then a step by itself; both layers share their kernels."""
    made = []
    for shape in ((5, 7), (6, 9)):
        currents = torch.randn(2 * STEPS + 1, *shape) + 0.3
        start = population.start(currents[0], torch.arange(shape[0]))
        wanted, end = population.scan(currents, start)
        found, state = fused.scan(population, currents, fused.prepared(population, start, currents.device), STEPS)
        torch.testing.assert_close(found.output, wanted.output)
        torch.testing.assert_close(found.spikes(), wanted.spikes())
        torch.testing.assert_close(state.v, end.v)
        made.append(counters["stats"]["unique_graphs"])
    assert made[0] == made[1]


def test_what_looks_at_numbers_runs_step_by_step() -> None:
    neuron = AdaptiveThreshold(threshold=torch.tensor(1.0), parameters=CHAIN)
    assert fused.unrollable(neuron)
    assert not fused.unrollable(dataclasses.replace(neuron, confidence=SpikeConfidence(0.5, 1)))

    class Plugin(IntegrateAndFire):
        pass

    assert not fused.unrollable(Plugin(threshold=torch.tensor(1.0)))


def converted(method: Method, model: nn.Module, inputs: Tensor, steps: int = 11) -> SpikingNetwork:
    return convert(method, Calibration(trace(model, inputs), inputs, steps, seed=3))


def assert_same(network: SpikingNetwork, inputs: Tensor, steps: int, backend: Backend, batch: int) -> None:
    """Compare every score and every population's output with the plain step loop."""
    wanted, found = run(network, inputs, steps, Step(), len(inputs)), run(network, inputs, steps, backend, batch)
    torch.testing.assert_close(found.tensor(), wanted.tensor(), rtol=1e-9, atol=1e-9)
    assert found.sums == pytest.approx(wanted.sums)


@pytest.mark.usefixtures("compiler")
def test_fused_session_equals_steps(small: tuple[nn.Module, Tensor]) -> None:
    """Convolutions, a shortcut, a max-pool; 11 steps in chunks of 2, batches of 10, 10 and 4."""
    model, inputs = small
    network = converted(constant.maximum(), model.double(), inputs.double())
    assert_same(network, inputs.double(), 11, Folded(STEPS, fused=True), 10)


class Replaying(Folded):
    """Records as on a GPU; a replay does the work again and puts the results where the first ones are."""

    def open(self, network: SpikingNetwork) -> Session:
        session = FoldedSession(network, self.chunk, True, self.terms)
        session.recorder = self.recorder = Recorder(again)
        return session


def again(work: Callable[[], Emission]) -> Replayed:
    placed = changed(work(), torch.clone)

    def replay() -> None:
        for kept, new in zip(tensors(placed), tensors(work()), strict=True):
            kept.copy_(new)

    return placed, replay


@pytest.mark.parametrize("method", [constant.maximum(), msat.msat(), msat.msat_sc(), dcgs.dcgs()], ids=lambda m: m.name)
def test_recordings(method: Method, small: tuple[nn.Module, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded chunks on fixed memory: T = 11 in chunks of 2, batches of 10, 10 and 4; a last chunk of one step."""
    monkeypatch.setattr(fused, "compiled", lambda *_: fused._unrolled)
    model, inputs = small
    network = converted(method, model.double(), inputs.double())
    backend = Replaying(STEPS)
    assert_same(network, inputs.double(), 11, backend, 10)
    stages = sum(fused.unrollable(stage.population) for stage in network.stages)
    assert stages >= len(network.stages) - 1
    assert len(backend.recorder.recordings) == 4 * stages  # two batch sizes, two lengths of chunks


@pytest.mark.parametrize("terms", [0, 7])
def test_recordings_read_each_other(
    terms: int, small: tuple[nn.Module, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a recorded stage sends is not copied for the next one."""
    monkeypatch.setattr(fused, "compiled", lambda *_: fused._unrolled)
    model, inputs = small
    network, backend = converted(constant.maximum(), model, inputs), Replaying(STEPS, terms=terms)
    run(network, inputs, 3 * STEPS, backend, len(inputs))
    first, second, pool, readout = backend.recorder.recordings.values()
    assert second.inputs[0] is first.emission.output
    assert pool.inputs[0] is second.emission.output
    assert readout.inputs[0] is pool.emission.output


def test_terms_of_bf16() -> None:
    weight = torch.randn(10_000) * torch.logspace(-6, 6, 10_000)
    errors = []
    for terms in (1, 2, 3):
        parts = split_bf16(weight, terms)
        assert all(torch.equal(part, part.bfloat16().float()) for part in parts)
        total = torch.stack(parts).double().sum(0)
        errors.append(((total - weight.double()).abs() / weight.double().abs()).max().item())
    assert errors[0] > 2**-10
    assert errors[1] <= 2**-16
    assert errors[2] <= 2**-24


@pytest.mark.parametrize(
    "method", [constant.maximum(), calibration.calibration_light(per="channel")], ids=["layer", "channel"]
)
@pytest.mark.parametrize("network", ["small", "averages"])
def test_split_weights_equal_steps(network: str, method: Method, small: tuple[nn.Module, Tensor]) -> None:
    """With as many terms as float64 needs: grouped convolutions, shortcuts, max- and average pools, linear layers."""
    model, inputs = small if network == "small" else averages()
    spiking = converted(method, model.double(), inputs.double())
    split = Split(spiking, 7)
    pools = [p for p in range(len(spiking.stages)) if split.pools(p)]
    assert [*split.synapses, *pools] == ([1, 3, 2] if network == "small" else [1, 2, 3])
    assert_same(spiking, inputs.double(), 11, Folded(4, terms=7), 10)
    assert_same(spiking, inputs.double(), 11, Replaying(20, terms=7), 10)


def averages() -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        inputs = torch.randn(12, 3, 8, 8)
        return settle_norms(Averages(), inputs), inputs


def test_weights_of_graded_spikes_are_not_split(small: tuple[nn.Module, Tensor]) -> None:
    network = converted(msat.msat(), *small)
    split = Split(network, 2)
    assert not split.synapses
    assert not split.scales


def test_split_traffic_is_in_activation_units(small: tuple[nn.Module, Tensor]) -> None:
    model, inputs = small
    network = converted(constant.maximum(), model, inputs)
    session = Folded(terms=2).open(network)
    constants = [session.constant(c, 0, 5) for c in network.network.front(inputs)]
    traffic, _ = session.advance(0, constants, None, torch.arange(24), 0, 5)
    plain, _ = Folded().open(network).advance(0, constants, None, torch.arange(24), 0, 5)
    torch.testing.assert_close(traffic.output(), plain.output())
    assert torch.equal(traffic.spikes(), plain.spikes())
    assert set(traffic.spikes().unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("name", "device", "chosen"),
    [(None, "cpu", "events"), (None, "cuda", "folded"), (None, "cuda:1", "folded"), ("step", "cuda", "step"),
     ("folded-bf16x2", "cuda", "folded-bf16x2"), ("folded", "cpu", "folded")],
)  # fmt: skip
def test_choice_by_device(name: str | None, device: str, chosen: str) -> None:
    assert choose(name, device).name == chosen


def test_batches_fill_a_gpu() -> None:
    assert gpu_batch([276_480], 75 << 30) == 256
    assert gpu_batch([4_000_000], 75 << 30) == 39
    assert gpu_batch([4_000_000], 1 << 30) == 1


def test_diagnostics_take_one_batch_on_a_gpu_that_has_room() -> None:
    held = 2 * 9 * 276_480
    assert diagnosed_at_once(256, held, 8 << 30) == 64
    assert diagnosed_at_once(256, held, 200 << 20) == 10
    assert diagnosed_at_once(256, held, 0) == 1
    assert diagnosed_at_once(256, held, None) == 12


def test_events_on_a_gpu_are_refused() -> None:
    with pytest.raises(UserError, match="'events' runs on a CPU, not on cuda; leave BACKEND away"):
        choose("events", "cuda")


def test_speed_is_measured_on_weights_that_are_there() -> None:
    for name, spec in SPECS.items():
        assert (SHIPPED / f"{spec.weights}.safetensors").exists() == bool(spec.weights), name
