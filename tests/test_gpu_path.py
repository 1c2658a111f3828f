"""What `folded` does on a GPU, on the CPU: kernels by torch.compile, convolutions as matrix or TF32 products."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from baselines import constant, dcgs, msat, parallel
from benchmarks.bench import gpu_batch
from benchmarks.cells import SHIPPED
from benchmarks.measure import diagnosed_at_once
from benchmarks.speed.convolutions import HEAD, measured
from benchmarks.speed.subjects import SPECS
from msat.adaptive import AdaptiveThreshold, SpikeConfidence
from msat.backends import Backend, Folded, Step, choose, fused
from msat.backends.convolutions import (
    Convolution,
    Instead,
    arithmetic,
    rounded,
    small_as_matrix,
    split,
    tensor_float,
    three_products,
)  # fmt: skip
from msat.backends.folded import FoldedSession
from msat.backends.kernels import NoCompiler, library
from msat.calibration import Calibration
from msat.coding import DifferentialNeuron
from msat.conversion import convert
from msat.errors import UserError
from msat.method import Method
from msat.multithreshold import HybridMultiThreshold, MultiThreshold, Retracting
from msat.network import SpikingNetwork
from msat.neurons import Burst, IntegrateAndFire, Population
from msat.signed import SignedIntegrateAndFire
from msat.task import CHAIN
from msat.tracing import trace
from tests.test_simulation import run

# PyTorch's compiler imports a module of PyTorch that uses what PyTorch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")


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
        IntegrateAndFire(threshold=theta), IntegrateAndFire(threshold=theta, reset="hard"), Burst(threshold=theta),
        AdaptiveThreshold(threshold=theta, parameters=CHAIN),
        AdaptiveThreshold(threshold=theta, parameters=CHAIN, units="normalised", det_input="dm"),
        SignedIntegrateAndFire(threshold=theta), MultiThreshold(threshold=theta), Retracting(threshold=theta),
        HybridMultiThreshold(threshold=theta), DifferentialNeuron(MultiThreshold(threshold=theta)),
    ]  # fmt: skip


@torch.no_grad()
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("population", neurons(), ids=lambda p: type(p).__name__)
def test_kernels_equal_steps(population: Population) -> None:
    """Two layers of other sizes, the chunk cut in two: both layers share their kernels."""
    assert fused.fusible(population)
    made = []
    for shape in ((5, 7), (6, 9)):
        currents = torch.randn(5, *shape) + 0.3
        begun = population.start(currents[0], torch.arange(shape[0]))
        wanted, _ = population.scan(currents, begun)
        state = fused.start(population, currents[0], torch.arange(shape[0]))
        first, state = fused.scan(population, currents[:1], state)
        second, _ = fused.scan(population, currents[1:], state)
        torch.testing.assert_close(torch.cat([first.output, second.output]), wanted.output)
        torch.testing.assert_close(torch.cat([first.spikes(), second.spikes()]), wanted.spikes())
        made.append(counters["stats"]["unique_graphs"])
    assert made[0] == made[1]


def test_what_looks_at_numbers_runs_as_it_is() -> None:
    neuron = AdaptiveThreshold(threshold=torch.tensor(1.0), parameters=CHAIN)
    assert fused.fusible(neuron)
    assert not fused.fusible(dataclasses.replace(neuron, confidence=SpikeConfidence(0.5, 1)))

    class Plugin(IntegrateAndFire):
        pass

    assert not fused.fusible(Plugin(threshold=torch.tensor(1.0)))


def converted(method: Method, model: nn.Module, inputs: Tensor, steps: int = 11) -> SpikingNetwork:
    return convert(method, Calibration(trace(model, inputs), inputs, steps, seed=3))


def assert_same(network: SpikingNetwork, inputs: Tensor, steps: int, backend: Backend, batch: int) -> None:
    """Compare every score and every population's output with the plain step loop."""
    wanted, found = run(network, inputs, steps, Step(), len(inputs)), run(network, inputs, steps, backend, batch)
    torch.testing.assert_close(found.tensor(), wanted.tensor(), rtol=1e-9, atol=1e-9)
    assert found.sums == pytest.approx(wanted.sums)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("chunk", [1, 2])
def test_fused_session_equals_steps(chunk: int, small: tuple[nn.Module, Tensor]) -> None:
    """Convolutions, a shortcut, a max-pool; 11 steps, batches of 10, 10 and 4."""
    model, inputs = small
    network = converted(constant.maximum(), model.double(), inputs.double())
    assert_same(network, inputs.double(), 11, Folded(chunk, joined=True), 10)


def test_methods_that_run_as_they_are(small: tuple[nn.Module, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Spike confidence, a window over all steps, differential coding: what is not compiled equals the step loop."""
    monkeypatch.setattr(fused, "compiled", lambda *_: fused._step)
    model, inputs = small
    for method in (msat.msat(), msat.msat_sc(), dcgs.dcgs(), parallel.parallel()):
        network = converted(method, model.double(), inputs.double())
        assert_same(network, inputs.double(), 11, Folded(None if method.name == "parallel" else 3, joined=True), 10)


LAYERS = [
    nn.Conv2d(6, 5, 3, padding=1), nn.Conv2d(6, 5, 3, padding=1, bias=False), nn.Conv2d(6, 5, (3, 2), (2, 1), (1, 0)),
    nn.Conv2d(6, 5, 1, 2), nn.Conv2d(6, 6, 3, groups=3), nn.Conv2d(6, 5, 3, padding="same"), nn.Conv2d(6, 5, 2, dilation=2),
]  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("pixels", [4, 9])
@pytest.mark.parametrize("three", [False, True])
def test_convolutions_keep_their_results(layer: nn.Module, pixels: int, three: bool) -> None:
    """Small maps by a matrix product, larger ones as they are; or three products, whose factors here are not rounded."""
    x = torch.randn(7, 6, pixels, pixels).contiguous(memory_format=torch.channels_last)
    wanted = layer(x)
    with arithmetic(three):
        found = layer(x)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_tensor_cores_compute_nothing_but_the_three_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grouped and transposed convolutions and matrix products stay in fp32; keywords make no difference."""
    cudnn, asked = torch.backends.cudnn, []
    before = cudnn.allow_tf32

    def noted(name: str, of: Any) -> Callable[..., Tensor]:
        def call(*args: Any, **kwargs: Any) -> Tensor:
            asked.append((name, cudnn.allow_tf32, args[0].shape[1]))
            return of(*args, **kwargs)

        return call

    plain = noted("plain", torch.conv2d)
    monkeypatch.setattr(torch, "conv2d", plain)  # what the mode looks for
    x, weight = torch.randn(1, 4, 8, 8), torch.randn(4, 4, 3, 3)
    for three in (True, False):
        mode = Instead(three_products if three else small_as_matrix)
        with tensor_float(False):
            mode.__torch_function__(plain, (), (x,), {"weight": weight, "padding": 1})
            mode.__torch_function__(plain, (), (x, weight[:, :2]), {"groups": 2})
            mode.__torch_function__(plain, (), (x.double(), weight.double()))
    assert asked == [("plain", True, 12), ("plain", False, 4), ("plain", False, 4), *[("plain", False, 4)] * 3]
    assert cudnn.allow_tf32 == before
    with arithmetic(True):
        assert not cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32


def test_small_maps_are_matrix_products() -> None:
    asked: list[tuple[int, ...]] = []

    def convolution(x: Tensor, *rest: Any) -> Tensor:
        asked.append(tuple(x.shape[2:]))
        return torch.conv2d(x, *rest)

    for pixels in (4, 5):
        maps, weight = torch.randn(1, 3, pixels, pixels), torch.randn(2, 3, 3, 3)
        small_as_matrix(convolution, Convolution(maps, weight, padding=(1,)))
    assert asked == [(5, 5)]


def test_numbers_are_rounded_to_eleven_bits() -> None:
    x = torch.randn(10_000) * torch.logspace(-6, 6, 10_000)
    first, rest = split(x.view(1, -1), (0, 1)).flatten().split(10_000)
    assert torch.equal(first + rest, x)
    assert ((rest / x).abs() <= 2**-11).all()
    assert (first.view(torch.int32) & 0x1FFF == 0).all()
    assert rounded(torch.tensor([1 + 2**-11, -1 - 2**-11, 1 + 2**-12])).tolist() == [1 + 2**-10, -1 - 2**-10, 1]


@pytest.mark.parametrize(
    ("name", "device", "chosen"),
    [(None, "cpu", "events"), (None, "cuda", "folded"), (None, "cuda:1", "folded"), ("step", "cuda", "step"),
     ("folded-tf32x3", "cuda", "folded-tf32x3"), ("folded", "cpu", "folded")],
)  # fmt: skip
def test_choice_by_device(name: str | None, device: str, chosen: str) -> None:
    assert choose(name, device).name == chosen


def test_batches_fill_a_gpu() -> None:
    assert gpu_batch([276_480], 75 << 30) == 1024
    assert gpu_batch([4_000_000], 75 << 30) == 201
    assert gpu_batch([4_000_000], 1 << 28) == 1


def test_chunks_of_a_gpu_are_bounded(small: tuple[nn.Module, Tensor]) -> None:
    session = FoldedSession(converted(constant.maximum(), *small), None)
    session.cuda = True
    assert [session.chunk_steps(batch) for batch in (2, 64, 1000, 2000)] == [32, 16, 1, 1]
    session.largest = 800_000
    assert session.chunk_steps(64) == 2


def test_diagnostics_take_one_batch_on_a_gpu_that_has_room() -> None:
    held = 2 * 9 * 276_480
    assert diagnosed_at_once(256, held, 8 << 30) == 64
    assert diagnosed_at_once(256, held, 200 << 20) == 10
    assert diagnosed_at_once(256, held, 0) == 1
    assert diagnosed_at_once(256, held, None) == 12


def test_events_on_a_gpu_are_refused() -> None:
    with pytest.raises(UserError, match="'events' runs on a CPU, not on cuda; leave BACKEND away"):
        choose("events", "cuda")


def test_convolutions_are_timed_with_their_errors() -> None:
    row = measured(4, 6, 4, torch.device("cpu"), 3)
    assert len(row) == len(HEAD)
    assert row[:2] == ("4 to 6", "4 x 4")
    assert all(float(error) < 1e-5 for error in row[4::3])


def test_speed_is_measured_on_weights_that_are_there() -> None:
    for name, spec in SPECS.items():
        assert (SHIPPED / f"{spec.weights}.safetensors").exists() == bool(spec.weights), name
