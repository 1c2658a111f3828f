"""Converts and simulates one method on one network and counts what happens."""

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.bench import Bench, free_memory
from benchmarks.records import Diagnosis, Population, Result, pack
from benchmarks.traces import follow
from msat.backends import choose
from msat.calibration import Calibration
from msat.conversion import convert
from msat.method import Method
from msat.network import MaxPool, Network, Relu, SpikingNetwork
from msat.observers import Accuracy, Activity, Diagnostics, SiteDiagnosis, checkpoints
from msat.operations import carried
from msat.simulation import simulate, tensor_batches

DIAGNOSED = 64
"""Most calibration inputs on which SIN and conversion error are counted."""
SNAPSHOT_VALUES = 60_000_000
"""Most values that the diagnostics of one batch hold on a CPU: 240 MB."""
GPU_SHARE = 8
"""The part of a GPU's free memory that they may take: one in so many."""


@dataclass
class Stopwatch:
    """Wall time per phase, s."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a phase."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started


@dataclass(frozen=True)
class Run:
    """One conversion, simulated for T steps."""

    steps: int
    network: SpikingNetwork
    accuracy: Accuracy
    activity: Activity
    diagnostics: Diagnostics


def measure(bench: Bench, method: Method, steps: int, seed: int, numbers: Tensor, watch: Stopwatch) -> Result:
    """Return what a method does on a network within T = `steps`, counted over the test inputs with these numbers.

    A method whose conversion depends on T is converted and run for every checkpoint T, and only last steps count.
    """
    if not method.recalibrate_per_T:
        run = _run(bench, method, steps, seed, numbers, checkpoints(steps), watch)
        return _result(bench, method, numbers, [run], list(range(1, steps + 1)), steps)
    runs = [_run(bench, method, t, seed, numbers, [t], watch) for t in checkpoints(steps)]
    return _result(bench, method, numbers, runs, checkpoints(steps), steps)


def _run(bench: Bench, method: Method, steps: int, seed: int, numbers: Tensor, at: list[int], watch: Stopwatch) -> Run:
    options = bench.setting.options
    backend = choose(options.backend, options.device)
    with watch.phase("convert"):
        network = convert(method, Calibration(bench.network, bench.calibration, steps, seed, bench.spec.adaptive))
    accuracy = Accuracy(bench.data.test.labels, bench.answers, steps)
    activity = Activity(_watched(bench, network), steps)
    size = bench.batch_size(network, steps)
    with watch.phase("simulate"):
        simulate(network, bench.batches(numbers, size), steps, [accuracy, activity], backend)
    diagnostics = Diagnostics(network.network, steps, at, differential=network.constant_once)
    held = 2 * len(at) * sum(math.prod(shape) for shape in network.network.shapes())
    device = torch.device(options.device)
    room = free_memory(device) // GPU_SHARE if device.type == "cuda" else None
    with watch.phase("diagnose"):
        batches = tensor_batches(bench.calibration[:DIAGNOSED], diagnosed_at_once(size, held, room))
        simulate(network, batches, steps, [diagnostics], backend)
    return Run(steps, network, accuracy, activity, diagnostics)


def diagnosed_at_once(size: int, held: int, room: int | None) -> int:
    """Return how many inputs to diagnose at once.

    Args:
        size: inputs of a batch in the simulation.
        held: values that the diagnostics hold for one input.
        room: bytes for them on a GPU, where every batch waits for T steps of launches; None on a CPU.
    """
    most = 32 if room is None else DIAGNOSED
    return max(1, min(size, most, SNAPSHOT_VALUES // held if room is None else room // (4 * held)))


def _watched(bench: Bench, network: SpikingNetwork) -> dict[int, Tensor]:
    """Return the fan-out of every spiking stage; what only a max-pool reads crosses no synapse and gets zeros."""
    known, _ = bench.counts(network.network)
    watched = {}
    for position, _, output in network.network.trace(network.network.example):
        if position < len(network.stages) - 1:
            watched[position] = known.get(position, torch.zeros_like(output[0], dtype=torch.float64))
    return watched


def _result(bench: Bench, method: Method, numbers: Tensor, runs: list[Run], steps: list[int], nominal: int) -> Result:
    at = checkpoints(nominal)
    layers = len(bench.network.sites)
    rows = [(run, t - 1) for run in runs for t in (steps if len(runs) == 1 else [run.steps])]
    events, spikes = _totals(rows)
    bits = [(runs[0] if len(runs) == 1 else runs[k]).accuracy.bits[t][numbers] for k, t in enumerate(at)]
    return Result(
        steps=steps,
        correct=[int(run.accuracy.correct[t]) for run, t in rows],
        agree=[int(run.accuracy.agree[t]) for run, t in rows],
        events=events,
        spikes=spikes,
        checkpoints=at,
        bits=[pack(b) for b in bits],
        populations=[_population(bench, runs, position) for position in range(len(runs[0].network.stages))],
        first_pass=method.axes.warm_up.neuron_steps if method.axes.warm_up else 0,
        real_latency=[method.real_latency(t, layers) for t in at],
        traces=follow(runs[-1].network, bench.calibration[:1], nominal, sum(bench.counts(runs[-1].network.network)[1])),
    )


def _totals(rows: list[tuple[Run, int]]) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Return synaptic events and synaptic spikes so far, by spike kind, for each (run, step counted from 0)."""
    sums: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    cumulative: dict[tuple[int, int], Tensor] = {}
    for run, _ in rows:
        for position, total in run.activity.totals.items():
            if (id(run), position) not in cumulative:
                cumulative[id(run), position] = total.cumsum(1)
    network = rows[0][0].network
    shapes = network.network.shapes()
    for position, stage in enumerate(network.stages[:-1]):
        column = torch.stack([cumulative[id(run), position][:, t] for run, t in rows], 1)
        for kinds, values in zip(sums, column[1:], strict=True):
            kind = carried(stage.population, len(shapes[position]))
            kinds[kind] = kinds.get(kind, 0) + values
    events, spikes = ({kind: v.round().long().tolist() for kind, v in kinds.items()} for kinds in sums)
    return events, spikes


def _population(bench: Bench, runs: list[Run], position: int) -> Population:
    network = runs[0].network
    spiking = network.stages[position]
    shape = network.network.shapes()[position]
    _, products = bench.counts(network.network)
    activity = [run.activity.sites().get(position) for run in runs]
    operations = spiking.population.operations

    def joined(name: str) -> list[int]:
        lists = [getattr(site, name) for site in activity if site]
        return lists[0] if len(runs) == 1 and lists else [values[-1] for values in lists]

    return Population(
        name=spiking.stage.name,
        role=_role(bench.network, network, position),
        neurons=_units(network, position, shape),
        spike_kind=carried(spiking.population, len(shape)),
        **operations._asdict(),
        macs=products[position],
        constant=spiking.stage.constant,
        spikes=joined("spikes"),
        synaptic_events=joined("synaptic_events"),
        synaptic_spikes=joined("synaptic_spikes"),
        threshold=_threshold(spiking.population),
        diagnosis=_diagnosis([run.diagnostics.sites.get(position) for run in runs]),
    )


def _role(ann: Network, network: SpikingNetwork, position: int) -> Any:
    """Return what a population replaces; a site that the ANN has not (BSNN) is a relay."""
    stage = network.stages[position].stage
    if isinstance(stage.rule, Relu) and stage.name not in {ann.stages[site].name for site in ann.sites}:
        return "relay"
    return {Relu: "site", MaxPool: "pool"}.get(type(stage.rule), "readout")


def _units(network: SpikingNetwork, position: int, shape: tuple[int, ...]) -> int:
    """Return the neurons of a stage; a pool keeps an account for each place of each window."""
    rule = network.stages[position].stage.rule
    if not isinstance(rule, MaxPool):
        return math.prod(shape)
    return math.prod(rule(torch.zeros(1, *shape)).shape) * math.prod(rule.kernel)


def _threshold(population: Any) -> tuple[float, float, float] | None:
    """Return least, mean and largest threshold; a wrapper's neuron is its `inner`."""
    theta = getattr(getattr(population, "inner", population), "threshold", None)
    if not isinstance(theta, Tensor) or theta.isnan().any():
        return None
    return float(theta.min()), float(theta.mean()), float(theta.max())


def _diagnosis(sites: list[SiteDiagnosis | None]) -> Diagnosis | None:
    """Join the counts of runs for different T; the clean network, and so the plain counts, are the same in all."""
    found: list[Mapping[str, Any]] = [asdict(site) for site in sites if site]
    if not found:
        return None
    joined = {
        name: [entry for row in found for entry in row[name]] if isinstance(value, list) else value
        for name, value in found[0].items()
    }
    return Diagnosis.model_validate(joined)
