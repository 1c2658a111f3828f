"""What methods cost: spikes behind pools, first passes, the neurons' own arithmetic; and what may not be combined."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines import burst, cos, dcgs, ltb, parallel, rmp, srp, tsc
from baselines.adafire import FiringCaps, adafire
from baselines.group_neuron import group_neuron
from baselines.ltb import Delayed
from baselines.parallel import ErrorOffsets
from benchmarks.plugins import registry
from msat.backends import Backend, Events, Folded
from msat.calibration import Calibration, Site
from msat.conversion import convert
from msat.corrections import EstimateConfidence
from msat.errors import UserError
from msat.method import Axes, Method
from msat.network import Relu, SpikingNetwork, Stage
from msat.neurons import Burst, IntegrateAndFire
from msat.observers import Activity, Diagnostics
from msat.operations import active, carried, fan_out
from msat.signed import SignedIntegrateAndFire
from msat.simulation import Chunk, Observer, simulate, tensor_batches
from msat.thresholds import Percentile
from msat.tracing import trace

STEPS = 16
SIX = nn.Sequential(nn.Linear(3, 4), nn.ReLU6(), nn.Linear(4, 2))
"""Currents up to 20 in front of a ReLU6."""
SIX[0].weight.data, SIX[0].bias.data = torch.eye(4, 3) * 20, torch.zeros(4)


class Outputs(Observer):
    """What one population sent: [T, B, ...]."""

    def __init__(self, position: int) -> None:
        self.position, self.parts = position, list[Tensor]()

    def see(self, chunk: Chunk) -> None:
        if chunk.position == self.position:
            self.parts.append(chunk.traffic.output().clone())

    @property
    def output(self) -> Tensor:
        return torch.cat(self.parts)


@pytest.fixture(params=[Events(), Folded()], ids=["events", "folded"], name="backend")
def both(request: pytest.FixtureRequest) -> Backend:
    return request.param  # type: ignore[no-any-return]


def test_active_products_are_those_whose_input_is_not_zero():
    """Fan-out times non-zero outputs, in two batches, against each layer run on a mask with weights of one."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layers = [nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 4, 3, stride=2, padding=1, groups=2), nn.Linear(16, 3)]
        inputs = torch.randn(5, 2, 8, 8)
    first, second, last = layers
    model = nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.Flatten(), last)
    wanted, hooks = [], []
    for layer in (second, last):
        counter = copy.deepcopy(layer)
        nn.init.ones_(counter.weight)
        nn.init.zeros_(counter.bias)
        hooks.append(
            layer.register_forward_pre_hook(
                lambda _, x, counter=counter: wanted.append(counter((x[0] != 0).float()).sum().item())
            )
        )
    model(inputs)
    assert len(wanted) == 2
    for hook in hooks:
        hook.remove()
    network = trace(model, inputs[:1])
    fans = fan_out(network)
    found = sum(
        active(output, fans[position])
        for part in inputs.split(3)
        for position, _, output in network.trace(part)
        if position in fans
    )
    assert found == pytest.approx(sum(wanted))


def pooled(method: Method) -> tuple[SpikingNetwork, Tensor, int]:
    """Return a converted network with a max-pool, its inputs, and the pool's position."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 6, 3), nn.ReLU(),
            nn.Flatten(), nn.Linear(24, 3),
        ).requires_grad_(False)  # fmt: skip
        inputs = torch.randn(10, 2, 8, 8)
    return convert(method, Calibration(trace(model, inputs), inputs, STEPS)), inputs, 1


def watched(network: SpikingNetwork, inputs: Tensor, position: int, backend: Backend) -> tuple[Activity, Tensor]:
    activity, outputs = Activity(fan_out(network.network), STEPS), Outputs(position)
    simulate(network, tensor_batches(inputs, len(inputs)), STEPS, [activity, outputs], backend)
    return activity, outputs.output


@pytest.mark.parametrize("method", [burst.burst(percentile=60.0), group_neuron(), adafire()], ids=lambda m: m.name)
def test_bursts_behind_a_pool_count_every_spike(method: Method, backend: Backend) -> None:
    network, inputs, pool = pooled(method)
    activity, output = watched(network, inputs, pool, backend)
    theta: Any = network.stages[0].population
    counts = (output / theta.threshold).round()
    site = activity.sites()[pool]
    assert network.stages[pool].population.spike_kind == "count"
    assert site.spikes[-1] == int(counts.sum()) > int((output != 0).sum())
    assert site.synaptic_events[-1] == int(((output != 0) * fan_out(network.network)[pool]).sum())


def test_switch_coding_goes_on_behind_a_pool(backend: Backend) -> None:
    network, inputs, pool = pooled(tsc.tsc())
    activity, output = watched(network, inputs, pool, backend)
    plain, _, _ = pooled(rmp.rmp())
    _, same = watched(plain, inputs, pool, backend)
    torch.testing.assert_close(output, same)
    on = torch.cat([torch.zeros_like(output[:1]), (output != 0).float()])
    assert network.stages[pool].population.spike_kind == "signed"
    assert activity.sites()[pool].spikes[-1] == int((on[1:] - on[:-1]).abs().sum())


@pytest.mark.parametrize("method", [srp.srp(), cos.cos()], ids=lambda m: m.name)
def test_a_first_pass_is_counted(method: Method) -> None:
    network, inputs, _ = pooled(method)
    activity, _ = watched(network, inputs, 0, Folded())
    bare = Activity(fan_out(network.network), STEPS)
    bare.first_pass = lambda _: None  # type: ignore[method-assign]
    simulate(network, tensor_batches(inputs, len(inputs)), STEPS, [bare], Folded())
    for position, site in activity.sites().items():
        extra = [a - b for a, b in zip(site.spikes, bare.sites()[position].spikes, strict=True)]
        assert extra[0] > 0
        assert len(set(extra)) == 1, "the same at every step"
    warm_up = method.axes.warm_up
    assert warm_up is not None
    assert warm_up.neuron_steps == (4 if method.name == "srp" else 8)


def test_differential_neurons_count_their_estimates() -> None:
    network, _, _ = pooled(dcgs.dcgs())
    rate, _, _ = pooled(dcgs.dcgs_rate())
    for one, other in zip(network.stages, rate.stages, strict=True):
        assert one.population.operations.multiplications > other.population.operations.multiplications
        assert one.population.operations.additions > other.population.operations.additions


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((), "signed"), ((4, 1, 1), "signed"), ((4, 3, 3), "graded")],
    ids=["layer", "channel", "neuron"],
)
def test_an_event_of_a_threshold_of_its_own_needs_a_multiplication(shape: tuple[int, ...], kind: str) -> None:
    assert carried(SignedIntegrateAndFire(threshold=torch.ones(shape)), 3) == kind
    assert carried(SignedIntegrateAndFire(threshold=torch.ones(4)), 1) == "signed", (
        "no neurons share a linear layer's weights"
    )


@pytest.mark.parametrize("name", sorted(registry().methods))
def test_relu6_is_respected(name: str) -> None:
    """No method may send more than the cap: relative squared error at T = 64 as for an ordinary ReLU."""
    inputs = torch.rand(40, 3, generator=torch.Generator().manual_seed(0))
    allowed = {
        "kappa": 0.3,
        "bsnn": 0.2,
        "msat-rest": 1.0,
        "msat-rest-normalised": 0.2,
        "maximum-hard": 0.1,
        "det": 0.3,
    }
    method, calibration = registry().methods[name](), Calibration(trace(SIX, inputs), inputs, 64)
    if method.axes.coding == "differential":
        with pytest.raises(UserError, match="is a ReLU6, whose cap differential coding cannot hold"):
            convert(method, calibration)
        return
    network = convert(method, calibration)
    found = Diagnostics(network.network, 64, [64], differential=network.constant_once)
    simulate(network, tensor_batches(inputs, 40), 64, [found], Folded())
    (site,) = found.sites.values()
    assert site.relative_error(0) < allowed.get(name, 0.05)


def test_a_percentile_of_zero_is_refused() -> None:
    a = torch.zeros(10, 10)
    a[0, 0] = 1.0
    with pytest.raises(UserError, match="50th percentile of site 'here' is not positive"):
        Percentile(50, nonzero=False).threshold(Site(0, Stage("here", (0,), nn.Identity(), Relu()), a, a), 8)


@pytest.mark.parametrize(
    "axes",
    [
        {"warm_up": cos.OffsetSpikes(4), "neuron": Burst()},
        {"warm_up": srp.ResidualPotential(4), "neuron": IntegrateAndFire()},
        {"corrections": (EstimateConfidence(),)},
        {"corrections": (FiringCaps(),)},
        {"corrections": (ErrorOffsets(),)},
    ],
    ids=["cos", "srp", "confidence", "adafire", "parallel"],
)
def test_rules_refuse_neurons_they_do_not_know(axes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"works with .*, not with .*; choose that neuron"):
        Axes(**axes)


def test_a_delayed_readout_needs_rate_coding() -> None:
    neuron = dcgs.dcgs().axes.neuron
    with pytest.raises(UserError, match="Delayed needs rate coding"):
        Axes(neuron=neuron, coding="differential", readout=Delayed())


def test_published_presets_are_not_refused() -> None:
    assert parallel.parallel().axes.corrections
    assert ltb.ltb().axes.readout == Delayed()
