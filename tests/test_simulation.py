"""Simulation: backends agree, results do not depend on chunk, batch or a smaller last batch, counts equal brute force."""

import pytest
import torch
from torch import Tensor, nn

from baselines import burst, constant, dcgs, mmse, msat, snm, tsc
from msat.backends import Backend, Events, Folded, Step
from msat.calibration import Calibration
from msat.conversion import convert
from msat.errors import UserError
from msat.method import Method
from msat.network import Network, SpikingNetwork
from msat.observers import Accuracy, Activity, Diagnostics, checkpoints
from msat.operations import fan_out
from msat.simulation import Chunk, Observer, simulate, tensor_batches
from msat.tracing import trace

METHODS = [
    constant.maximum(),
    constant.half_start(),
    constant.percentile(),
    msat.msat(),
    msat.msat_sc(),
    mmse.mmse(),
]


def ids(value: object) -> str:
    """Return a stable name: workers of pytest-xdist must agree."""
    return getattr(value, "name", str(value))


class Scores(Observer):
    """Keeps the readout's scores and every population's summed output."""

    def __init__(self, network: SpikingNetwork) -> None:
        self.scores: dict[tuple[int, int], Tensor] = {}
        self.sums: dict[int, float] = {}
        self.last = len(network.stages) - 1

    def see(self, chunk: Chunk) -> None:
        output = chunk.traffic.output()
        if chunk.position == self.last:
            for t, row in enumerate(output):
                for sample, score in zip(chunk.samples.tolist(), row, strict=True):
                    self.scores[chunk.first + t, sample] = score.clone()
        else:
            self.sums[chunk.position] = self.sums.get(chunk.position, 0.0) + output.double().sum().item()

    def tensor(self) -> Tensor:
        return torch.stack([self.scores[key] for key in sorted(self.scores)])


def run(network: SpikingNetwork, inputs: Tensor, steps: int, backend: Backend, batch: int) -> Scores:
    scores = Scores(network)
    simulate(network, tensor_batches(inputs, batch), steps, [scores], backend)
    return scores


def converted(method: Method, model: nn.Module, inputs: Tensor, steps: int = 20) -> SpikingNetwork:
    return convert(method, Calibration(trace(model, inputs), inputs, steps, seed=3))


@pytest.mark.parametrize("method", METHODS, ids=ids)
@pytest.mark.parametrize(("backend", "batch"), [(Folded(), 24), (Folded(7), 24), (Folded(3), 10), (Step(), 9)], ids=ids)
def test_no_dependence_on_backend_chunk_and_batch(
    method: Method, backend: Backend, batch: int, small: tuple[nn.Module, Tensor]
) -> None:
    model, inputs = small
    network = converted(method, model.double(), inputs.double())
    reference = run(network, inputs.double(), 20, Step(), 24)
    other = run(network, inputs.double(), 20, backend, batch)
    torch.testing.assert_close(other.tensor(), reference.tensor(), rtol=1e-9, atol=1e-9)
    assert other.sums == pytest.approx(reference.sums)


def test_mean_output_tends_to_the_ann(small: tuple[nn.Module, Tensor]) -> None:
    model, inputs = small
    network = converted(constant.maximum(), model, inputs)
    errors = []
    for steps in (32, 256, 2048):
        scores = run(network, inputs[:4], steps, Folded(), 4).tensor()[-4:] / steps
        errors.append((scores - model(inputs[:4])).abs().max().item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02


def dense_fan_out(network: Network, position: int) -> Tensor:
    """Count synapses one neuron at a time: how many sums change when one unit of the source does."""
    shape = network.shapes()[position]
    total = torch.zeros(shape).flatten()
    for reader in network.stages:
        if position not in reader.sources or reader.name == "pool":
            continue
        sources = [torch.zeros(1, *network.shapes()[s]) if s != position else None for s in reader.sources]
        base = reader.synapses(*(torch.zeros(1, *shape) if s is None else s for s in sources))
        for i in range(len(total)):
            probe = torch.zeros(1, *shape).flatten()
            probe[i] = 1
            moved = reader.synapses(*(probe.view(1, *shape) if s is None else s for s in sources))
            total[i] += (moved != base).sum()
    return total.view(shape)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.c = nn.Linear(6 * 9, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).relu().flatten(1))


def test_fan_out_equals_brute_force() -> None:
    network = trace(Plain(), torch.randn(1, 1, 7, 7))
    counts = fan_out(network)
    for position in network.sites:
        assert torch.equal(counts[position].float(), dense_fan_out(network, position))


def test_shortcut_costs_one_and_pool_input_nothing(small: tuple[nn.Module, Tensor]) -> None:
    network = trace(*small)
    counts = fan_out(network)
    corner, centre = counts[0][0, 0, 0].item(), counts[0][0, 3, 3].item()
    assert (corner, centre) == (4 * 3 + 1, 9 * 3 + 1)  # 3 outputs a group, and the shortcut
    assert 1 not in counts  # what goes into the max-pool
    assert counts[2].unique().tolist() == [4]


def test_activity_counts_what_was_sent(small: tuple[nn.Module, Tensor]) -> None:
    model, inputs = small
    network = converted(constant.maximum(), model, inputs)
    weights = fan_out(network.network)
    activity = Activity(weights, 20)

    class Brute(Observer):
        spikes = 0
        events = 0.0

        def see(self, chunk: Chunk) -> None:
            if chunk.position == 0:
                sent = (chunk.traffic.output() != 0).double()
                self.spikes += int(sent.sum())
                self.events += float((sent * weights[0]).sum())

    brute = Brute()
    simulate(network, tensor_batches(inputs, 7), 20, [activity, brute], Folded(6))
    site = activity.sites()[0]
    assert (site.spikes[-1], site.synaptic_events[-1]) == (brute.spikes, round(brute.events))
    assert site.synaptic_spikes == site.synaptic_events
    assert checkpoints(20) == [1, 2, 4, 8, 16, 20]


def test_accuracy_counts_and_bits(small: tuple[nn.Module, Tensor]) -> None:
    model, inputs = small
    network = converted(constant.half_start(), model, inputs)
    answers = model(inputs).argmax(1)
    labels = (answers + (torch.arange(24) % 3 == 0)) % 4
    one, two = Accuracy(labels, answers, 30), Accuracy(labels, answers, 30)
    simulate(network, tensor_batches(inputs, 24), 30, [one], Folded())
    simulate(network, tensor_batches(inputs, 5), 30, [two], Step())
    assert torch.equal(one.correct, two.correct)
    assert torch.equal(one.agree, two.agree)
    assert one.seen == two.seen == 24
    for t, bits in one.bits.items():
        assert int(bits.sum()) == one.correct[t - 1]
        assert torch.equal(bits, two.bits[t])


def test_diagnostics_add_over_batches(small: tuple[nn.Module, Tensor]) -> None:
    model, inputs = small
    network = converted(msat.msat(), model, inputs)
    one, two = Diagnostics(network.network, 16), Diagnostics(network.network, 16)
    simulate(network, tensor_batches(inputs, 24), 16, [one], Folded())
    simulate(network, tensor_batches(inputs, 10), 16, [two], Folded(3))
    for position in network.network.sites:
        a, b = one.sites[position], two.sites[position]
        assert (a.silent, a.sin, a.sin_spikes, a.fired_positive) == (
            b.silent,
            b.sin,
            b.sin_spikes,
            b.fired_positive,
        )
        assert a.squared_error == pytest.approx(b.squared_error, rel=1e-4)
        assert a.silent + a.positive == 24 * 6 * 36
        assert a.relative_error(-1) < a.relative_error(0)


def test_steps_below_one_are_refused(small: tuple[nn.Module, Tensor]) -> None:
    model, inputs = small
    with pytest.raises(UserError, match="at least 1, got 0"):
        run(converted(constant.maximum(), model, inputs), inputs, 0, Folded(), 4)


def test_silent_site_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].bias.fill_(-1e6)
    inputs = torch.randn(8, 3)
    with pytest.raises(UserError, match="site '1' never fires on the 8 calibration inputs"):
        converted(constant.maximum(), model, inputs)


def test_diagnosis_decodes_differential_outputs(small: tuple[nn.Module, Tensor]) -> None:
    """What a differential neuron sends is a change: its estimate, not the mean of what it sent, is near the activation."""
    model, inputs = small
    network = converted(dcgs.dcgs(), model, inputs, 16)
    observer = Diagnostics(network.network, 16, differential=network.constant_once)
    simulate(network, tensor_batches(inputs, 24), 16, [observer], Folded(5))
    assert all(site.relative_error(-1) < 0.01 for site in observer.sites.values())


@pytest.mark.parametrize("method", [tsc.tsc(), snm.snm(), burst.burst()], ids=ids)
def test_backends_count_the_same_events(method: Method, small: tuple[nn.Module, Tensor]) -> None:
    """Events that are not the non-zero outputs (TSC), signed and counted ones."""
    model, inputs = small
    network = converted(method, model, inputs)
    found = []
    for backend in (Step(), Folded(), Events()):
        activity = Activity(fan_out(network.network), 20)
        simulate(network, tensor_batches(inputs, 10), 20, [activity], backend)
        found.append(
            [
                (site.spikes[-1], site.synaptic_events[-1], site.synaptic_spikes[-1])
                for site in activity.sites().values()
            ]
        )
    assert found[0] == found[1] == found[2]
