"""What every registered method must satisfy, on tiny networks; where a property does not hold, the reason stands here."""

import importlib
import pkgutil
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import baselines
from benchmarks.conformance import method_fault
from msat.backends import Backend, Folded, Step
from msat.calibration import Calibration
from msat.coding import DifferentialNeuron, Estimates
from msat.conversion import convert
from msat.method import MethodFactory
from msat.network import SpikingNetwork
from msat.observers import Activity, checkpoints
from msat.operations import fan_out
from msat.simulation import Chunk, Observer, simulate
from msat.tracing import trace
from tests.conftest import SmallNet, settle_norms

STEPS = 8
LONG = 512


def registered() -> dict[str, MethodFactory]:
    """Return every method of the package `baselines`, by name."""
    modules = [importlib.import_module(f"baselines.{found.name}") for found in pkgutil.iter_modules(baselines.__path__)]
    values = [value for module in modules for value in vars(module).values()]
    return {value.name: value for value in values if isinstance(value, MethodFactory)}


METHODS = registered()
every_method = pytest.mark.parametrize("name", sorted(METHODS))
QUICK: dict[str, dict[str, Any]] = {"calibration-weights": {"iterations": 2}}
"""Parameters that only save time."""

LOSES_CHARGE = {
    "bsnn": "neurons are deaf while they fire",
    "maximum-hard": "reset to zero drops the surplus",
    "msat-sc": "spike confidence drops spikes whose charge is gone",
    "parallel": "a run ends with what it sent, the residue is dropped",
    "spike-converter": "a run ends with its last digit, what lies behind it is dropped",
    "spicalib": "cancelled spikes are not refunded",
}
"""Where input = output + change of potential does not hold."""

FAR_FROM_RELU = {
    "bsnn": (0.6, "a neuron fires in half of all steps, so mean outputs are half"),
    "kappa": (0.6, "clips at half of the maximum"),
    "msat": (0.1, "thresholds move; charge piles up (methods.md A.3)"),
    "msat-half": (0.1, "as MSAT"),
    "msat-normalised": (0.1, "as MSAT"),
    "msat-sc": (0.1, "as MSAT"),
    "dtt": (0.1, "as MSAT"),
    "det": (0.35, "a large current lowers the threshold, so that the neuron saturates below its activation"),
    "msat-rest": (0.9, "clips at the resting threshold, a fraction of the maximum"),
    "msat-rest-normalised": (0.5, "clips at the resting threshold, a fraction of the maximum"),
    "maximum-hard": (0.5, "hard reset drops the surplus"),
    "spicalib": (0.05, "spikes of neurons that fire rarely are cancelled"),
    "srp": (
        0.15,
        "a neuron whose potential is at most 0.001 theta after tau steps is muted although its activation is positive",
    ),
}
"""Largest error allowed at T = 512, as a share of the largest activation, and why; 0.03 for all others."""


class Record(Observer):
    """Outputs of every population, put together from chunks and batches."""

    def __init__(self) -> None:
        self.parts: dict[int, dict[tuple[int, int], tuple[Tensor, Tensor]]] = {}
        self.before: dict[int, list[Tensor]] = {}
        """Spikes of a pass before step 1, by population: [T * B, ...] each."""

    def first_pass(self, chunk: Chunk) -> None:
        self.before.setdefault(chunk.position, []).append(chunk.traffic.spikes().flatten(0, 1).clone())

    def see(self, chunk: Chunk) -> None:
        output, spikes = chunk.traffic.output(), chunk.traffic.spikes()
        kept = self.parts.setdefault(chunk.position, {})
        for t in range(len(output)):
            for b, sample in enumerate(chunk.samples.tolist()):
                kept[chunk.first + t, sample] = (output[t, b].clone(), spikes[t, b].clone())

    def output(self, position: int) -> Tensor:
        """Return what a population sent, by step and sample: [T * N, ...]."""
        return torch.stack([kept[0] for _, kept in sorted(self.parts[position].items(), key=lambda item: item[0])])

    def spikes(self, position: int) -> Tensor:
        """Return the spikes, by step and sample: [T * N, ...]."""
        return torch.stack([kept[1] for _, kept in sorted(self.parts[position].items(), key=lambda item: item[0])])


def run(network: SpikingNetwork, inputs: Tensor, order: Tensor, batch: int, backend: Backend, steps: int) -> Record:
    record = Record()
    parts = order.split(batch)
    simulate(network, [(inputs[part], part) for part in parts], steps, [record], backend)
    return record


@cache
def small() -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        inputs = torch.randn(24, 2, 6, 6)
        model = settle_norms(SmallNet(), inputs).double()
    return model.requires_grad_(False), inputs.double()


@cache
def converted(name: str) -> SpikingNetwork:
    model, inputs = small()
    return convert(METHODS[name](**QUICK.get(name, {})), Calibration(trace(model, inputs), inputs, STEPS, seed=3))


@every_method
def test_no_dependence_on_chunk_batch_and_order(name: str) -> None:
    network, inputs = converted(name), small()[1][:9]
    last = len(network.stages) - 1
    reference = run(network, inputs, torch.arange(9), 9, Step(), STEPS).output(last)
    shuffled = torch.tensor([4, 0, 8, 2, 1, 7, 3, 6, 5])
    for backend, order, batch in ((Folded(3), torch.arange(9), 4), (Folded(), shuffled, 5), (Step(), shuffled, 9)):
        other = run(network, inputs, order, batch, backend, STEPS).output(last)
        torch.testing.assert_close(other, reference, rtol=1e-8, atol=1e-8)


@every_method
def test_the_check_of_plugins_accepts_it(name: str) -> None:
    assert method_fault(lambda: METHODS[name](**QUICK.get(name, {}))) == ""


@every_method
def test_charge_balance(name: str) -> None:
    """Input = output + change of potential; under differential coding v(t) - v(0) = t (e_in - e_out)."""
    network = converted(name)
    stage = network.stages[network.network.sites[0]].population
    generator = torch.Generator().manual_seed(11)
    currents = torch.randn(12, 3, 6, 6, 6, generator=generator, dtype=torch.float64) + 0.3
    before = stage.start(currents[0], torch.arange(3))
    emission, after = stage.scan(currents, before)
    if isinstance(stage, DifferentialNeuron):
        assert isinstance(after, Estimates)
        torch.testing.assert_close(after.inner.v - before.inner.v, 12 * (after.e_in - after.e_out))
    elif name not in LOSES_CHARGE:
        torch.testing.assert_close(currents.sum(0), emission.output.sum(0) + after.v - before.v)


class Mean(Observer):
    """Mean output of the first population, [B, ...]; what it decodes to under differential coding."""

    def __init__(self) -> None:
        self.total, self.state = torch.tensor(0.0), None

    def see(self, chunk: Chunk) -> None:
        if chunk.position == 0:
            self.total, self.state = self.total + chunk.traffic.output().sum(0), chunk.state

    @property
    def value(self) -> Tensor:
        return self.state.e_out if isinstance(self.state, Estimates) else self.total / LONG


def two_layers() -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network whose first layer is the identity, its inputs, and the activations that follow."""
    model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.ReLU(), nn.Linear(6, 3)).double().requires_grad_(False)
    model[0].weight.copy_(torch.eye(6))
    inputs = torch.rand(32, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 2 - 0.7
    return model, inputs, inputs.clamp(min=0)


@every_method
def test_mean_output_tends_to_the_relu(name: str) -> None:
    model, inputs, activations = two_layers()
    calibration = Calibration(trace(model, inputs), inputs, LONG, seed=3)
    network = convert(METHODS[name](**QUICK.get(name, {})), calibration)
    mean = Mean()
    simulate(network, [(inputs, torch.arange(32))], LONG, [mean], Folded())
    allowed, _ = FAR_FROM_RELU.get(name, (0.03, ""))
    assert ((mean.value - activations).abs().max() / activations.max()).item() <= allowed


@every_method
def test_conversion_reads_only_the_calibration(name: str) -> None:
    """Nothing is changed in place, the global generator is not touched, and a second conversion gives the same network."""
    model, inputs = small()
    calibration = Calibration(trace(model, inputs), inputs.clone(), STEPS, seed=3)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    generator = torch.random.get_rng_state()
    network = convert(METHODS[name](**QUICK.get(name, {})), calibration)
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert torch.equal(calibration.inputs, inputs)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    last, order = len(network.stages) - 1, torch.arange(4)
    first, second = (run(n, inputs, order, 4, Folded(), STEPS).output(last) for n in (network, converted(name)))
    assert torch.equal(first, second)


@every_method
def test_event_counts_equal_brute_force(name: str) -> None:
    network, inputs = converted(name), small()[1][:6]
    weights = fan_out(network.network)
    activity, record = Activity(weights, STEPS), Record()
    simulate(network, [(inputs, torch.arange(6))], STEPS, [activity, record], Folded(3))
    for position, site in activity.sites().items():
        spikes = record.spikes(position).view(STEPS, 6, *weights[position].shape).abs()
        before = torch.cat(record.before.get(position, [spikes[:0].flatten(0, 1)])).abs()
        assert (len(before) > 0) == (network.warm_up is not None)
        for index, t in enumerate(checkpoints(STEPS)):
            seen = torch.cat([before, spikes[:t].flatten(0, 1)])
            assert site.spikes[index] == round(seen.sum().item())
            assert site.synaptic_spikes[index] == round((seen * weights[position]).sum().item())
            assert site.synaptic_events[index] == round(((seen != 0) * weights[position]).sum().item())
