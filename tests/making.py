"""Records made by hand, for tests of tables and of the store."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.records import Record, pack

STEPS = [1, 2, 3, 4]


def make_record(
    method: str = "msat",
    seed: int = 0,
    status: str = "done",
    reason: str = "",
    correct: list[int] | None = None,
    tested: int = 10,
    weights: str = "abc",
    profile: str = "sample",
    stochastic: bool = False,
) -> Record:
    """Return the record of a network with one site and a readout, T = 4."""
    published = [{"method": "A [paper]", "ann": 90.0, "snn": 89.0, "steps": None, "source": "there"}]
    fields: dict[str, Any] = {
        "status": status, "reason": reason, "identity": "i",
        "cell": {"profile": profile, "task": "clouds", "model": "mlp", "method": method, "parameters": {"k": 1},
                 "overrides": {}, "adaptive": {}, "steps": 4, "seed": seed, "base_seed": 0},
        "task": {"title": "Clouds", "modality": "image", "classes": 3,
                 "published": published if profile == "full" else []},
        "method": {"title": "A method", "source": "nobody", "category": "post-training", "reconstruction": "all",
                   "recalibrate_per_T": False, "stochastic": stochastic, "causal": True, "spike_kind": "binary",
                   "source_hash": "h"},
        "data": {"kind": "sample", "summary": "3 clouds", "remarks": ["synthetic"], "fingerprint": "f",
                 "train_size": 20, "test_size": 10},
        "ann": {"weights": weights, "origin": "trained", "file": "f.safetensors", "recipe": {"epochs": 2}, "loss": 0.1,
                "train_seconds": 1.0, "correct": 8, "bits": "/8A=", "macs": 120, "trace_error": 0.0},
        "inputs": {"tested": tested, "limit": None, "selection": "all", "calibration": 20, "calibration_asked": 512,
                   "calibration_rule": "training inputs", "diagnosed": 20},
        "run": {"seconds": {"convert": 0.1}, "peak_memory": 1.0, "versions": {}, "device": "cpu", "threads": 1,
                "backend": "folded", "commit": None, "dirty": None},
        "result": _result(correct or [1, 4, 7, 8]) if status == "done" else None,
    }  # fmt: skip
    return Record.model_validate(fields)


def _result(correct: list[int]) -> dict[str, Any]:
    diagnosis = {"silent": 10, "positive": 10, "sin": [0, 1, 2], "sin_spikes": [0, 1, 3], "fired_positive": [1, 4, 6],
                 "squared_error": [4.0, 2.0, 1.0], "squared_activation": 50.0}  # fmt: skip
    common = {"spike_kind": "binary", "multiplications": 0, "transcendentals": 0}
    site = {"name": "relu", "role": "site", "neurons": 5, "additions": 3, "macs": 100, "constant": True,
            "spikes": [1, 2, 8], "synaptic_events": [5, 10, 40], "synaptic_spikes": [5, 10, 40],
            "threshold": [1.0, 1.0, 1.0], "diagnosis": diagnosis}  # fmt: skip
    readout = {"name": "output", "role": "readout", "neurons": 3, "additions": 0, "macs": 20, "constant": False,
               "spikes": [], "synaptic_events": [], "synaptic_spikes": [], "threshold": None, "diagnosis": None}  # fmt: skip
    return {
        "steps": STEPS, "correct": correct, "agree": correct, "events": {"binary": [5, 10, 20, 40]},
        "spikes": {"binary": [5, 10, 20, 40]}, "checkpoints": [1, 2, 4], "bits": ["/8A="] * 3,
        "populations": [common | site, common | readout], "real_latency": [1, 2, 4],
    }  # fmt: skip


def many_records(count: int, networks: int = 10, seed: int = 0) -> Iterator[tuple[str, Record]]:
    """Yield (path below the results folder, record): methods with random curves on some networks, T = 64, 400 inputs."""
    random = np.random.default_rng(seed)
    for index in range(count):
        network, method = index % networks, index // networks
        profile, task = ("sample", "full")[network % 2], f"task-{network // 2}"
        name = ("msat", "msat-sc", "dtt", "det", "kappa", "maximum")[method] if method < 6 else f"method-{method}"
        record = curves(make_record(name, profile=profile, tested=400), task, random, 2.0 + 20 * random.random())
        yield f"{profile}/{task}/mlp/{name}-00000000-T64-s0.json", record


def curves(record: Record, task: str, random: np.random.Generator, slow: float) -> Record:
    """Return a record with random answers that grow with time, 13 sites and events of a real size."""
    steps, total = list(range(1, 65)), record.inputs.tested
    checkpoints = [1, 2, 4, 8, 16, 32, 64]
    ease = random.random(total)
    right = {t: ease < 0.95 * (1 - np.exp(-t / slow)) for t in steps}
    correct = [int(right[t].sum()) for t in steps]
    events = [int(total * 40 * t) for t in steps]
    assert record.result is not None
    site, readout = record.result.populations
    wide = {name: [1 + 10 * t for t in checkpoints] for name in ("spikes", "synaptic_events", "synaptic_spikes")}
    noise = {"sin": sorted(random.integers(0, 10, 7).tolist()), "sin_spikes": [3] * 7, "fired_positive": [5] * 7,
             "squared_error": sorted((4 * random.random(7)).tolist(), reverse=True)}  # fmt: skip
    assert site.diagnosis is not None
    site = site.model_copy(update={**wide, "diagnosis": site.diagnosis.model_copy(update=noise)})
    sites = [site.model_copy(update={"name": f"relu{n}"}) for n in range(13)]
    result = record.result.model_copy(
        update={"steps": steps, "correct": correct, "agree": correct, "events": {"binary": events},
                "spikes": {"binary": events}, "checkpoints": checkpoints, "real_latency": checkpoints,
                "bits": [pack(torch.from_numpy(right[t])) for t in checkpoints], "populations": [*sites, readout]}
    )  # fmt: skip
    kind = "real" if record.cell.profile == "full" else "sample"
    return record.model_copy(
        update={"result": result, "cell": record.cell.model_copy(update={"task": task, "steps": 64}),
                "data": record.data.model_copy(update={"kind": kind}),
                "ann": record.ann.model_copy(update={"correct": 370, "macs": 1200})}
    )  # fmt: skip


def with_bits(method: str, right: int, total: int) -> Record:
    """Return the record of a method that has the first `right` of `total` inputs right at every step."""
    record = make_record(method, correct=[right] * 4, tested=total)
    bits = pack(torch.arange(total) < right)
    assert record.result is not None
    ann = record.ann.model_copy(update={"correct": total - 4, "macs": 10**6})
    return record.model_copy(update={"result": record.result.model_copy(update={"bits": [bits] * 3}), "ann": ann})
