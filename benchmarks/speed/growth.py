"""How the event backend's time grows with steps, images, firing rate and threads; peak memory of backends and of whole runs."""

import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.memory import forget_peak, peak_memory
from benchmarks.records import read_record
from benchmarks.speed.contenders import rate, run
from benchmarks.speed.measure import paired
from benchmarks.speed.subjects import Subject, subject
from msat.backends import Events, Folded, choose

LARGE_BATCH = 50
RATE_STEPS = 16
"""T of the curves against the firing rate."""
Curve = list[tuple[float, float]]
"""Points (cause, milliseconds per image and step; seconds for steps, MiB for memory)."""


def curves(chosen: Subject, steps: int, repeats: int) -> dict[str, Curve]:
    """Return the curves of integrate-and-fire on one network, and the memory of a benchmark run against its T."""
    network, inputs = chosen.converted("IF"), chosen.inputs
    found: dict[str, Curve] = {"steps": [], "images": [], "rate": [], "rate, folded": [], "threads": []}
    for t in (steps // 4, steps // 2, steps, 2 * steps):
        timing = paired({"events": (partial(run, network, inputs, t, Events()), t * len(inputs))}, repeats)
        found["steps"].append((t, timing.median("events") * t * len(inputs)))
    for count in (1, 2, 5, 10, 20, 50):
        images = enlarged(inputs, count)
        timing = paired({"events": (partial(run, network, images, steps, Events()), steps * count)}, repeats)
        found["images"].append((count, 1e3 * timing.median("events")))
    for scale in (0.25, 0.5, 1.0, 2.0, 4.0):
        slower = chosen.converted("IF", scale)
        share = 100 * rate(slower, inputs, steps)
        works = {
            backend.name: (partial(run, slower, inputs, RATE_STEPS, backend), RATE_STEPS * len(inputs))
            for backend in (Events(), Folded())
        }
        timing = paired(works, repeats)
        found["rate"].append((share, 1e3 * timing.median("events")))
        found["rate, folded"].append((share, 1e3 * timing.median("folded")))
    found["threads"] = threads(chosen, steps, repeats)
    found["memory"] = [(t, run_memory(t)) for t in (16, 64, 256, 1024)]
    return found


def threads(chosen: Subject, steps: int, repeats: int) -> Curve:
    """Return the time for each number of threads on a batch as large as a run's, measured in turn in every repeat."""
    network, most = chosen.converted("IF"), torch.get_num_threads()
    inputs = enlarged(chosen.inputs, LARGE_BATCH)

    def work(count: int) -> None:
        torch.set_num_threads(count)
        run(network, inputs, steps, Events(), times=2)

    units = 2 * steps * len(inputs)
    timing = paired({str(n): (partial(work, n), units) for n in range(1, most + 1)}, repeats)
    torch.set_num_threads(most)
    return [(n, 1e3 * timing.median(str(n))) for n in range(1, most + 1)]


def enlarged(inputs: Tensor, count: int) -> Tensor:
    """Return so many inputs, repeated in turn."""
    return inputs[torch.arange(count) % len(inputs)]


def run_memory(steps: int) -> float:
    """Return the largest resident memory of `msat-bench run` on one sample task, training and all observers included, MiB."""
    with tempfile.TemporaryDirectory() as folder:
        call = "from benchmarks.cli import main; main()"
        options = ["run", "--task", "digits", "--methods", "msat", "--steps", str(steps), "--results", folder]
        subprocess.run([sys.executable, "-c", call, *options], capture_output=True, check=True)
        (file,) = Path(folder).rglob("msat-*.json")
        record = read_record(file)
    assert record is not None
    return record.run.peak_memory


def batch_memory(name: str, neuron: str, backend: str, data: Path | None, steps: int) -> float:
    """Return the growth of a fresh process's peak memory by one simulated batch, in megabytes."""
    order = json.dumps([name, neuron, backend, str(data) if data else None, steps])
    command = [sys.executable, "-m", "benchmarks.speed.growth", order]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _grow(order: str) -> float:
    name, neuron, backend, data, steps = json.loads(order)
    chosen = subject(name, Path(data) if data else None, steps)
    network = chosen.converted(neuron)
    forget_peak()
    before = peak_memory()
    run(network, chosen.inputs, steps, choose(backend))
    return peak_memory() - before


if __name__ == "__main__":
    print(_grow(sys.argv[1]))
