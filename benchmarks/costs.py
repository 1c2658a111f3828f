"""Operations and energy of one inference, from records alone: counts, a long frame for the CSV file, means over seeds."""

import math
from statistics import mean
from typing import Any

import pandas as pd

from benchmarks.records import Record
from benchmarks.tables import ENERGY_EPSILON, Section, whose
from msat import energy


def energy_frame(section: Section, cost: energy.Costs | None = None) -> pd.DataFrame:
    """Return one row per method, seed and place (T, or settled): operations and energy of one inference."""
    cost = cost or energy.costs()
    rows: list[dict[str, Any]] = []
    for row in section.rows:
        for index, record in enumerate(row.records):
            if not row.results:
                rows.append(whose(section, row, record))
                continue
            places = {"T": record.cell.steps, "settled": row.latency(ENERGY_EPSILON)[index]}
            for place, step in places.items():
                found = _energies(energy_counts(record, step), cost) if step is not None else {}
                rows.append(whose(section, row, record) | {"at": place, "step": step} | found | _skipping(record))
    frame = pd.DataFrame(rows)
    return frame.astype({"step": "Int64"}) if "step" in frame else frame


def _skipping(record: Record) -> dict[str, float]:
    active = record.ann.active_macs
    return {"ann_active_macs": math.nan if active is None else active}


def energy_means(section: Section, cost: energy.Costs) -> dict[tuple[str, int, str], dict[str, float]]:
    """Return the numbers of `energy_frame` as means over seeds, by (label, T, place); nothing where a seed has no number."""
    means = {}
    for row in section.rows:
        settled_at = row.latency(ENERGY_EPSILON)
        for place, steps in (("T", [row.steps] * len(row.results)), ("settled", settled_at)):
            known = [step for step in steps if step is not None]
            if known and len(known) == len(steps):
                seeds = [
                    {"step": float(step)} | _energies(energy_counts(record, step), cost)
                    for record, step in zip(row.records, known, strict=True)
                ]
                means[row.label, row.steps, place] = {key: mean(seed[key] for seed in seeds) for key in seeds[0]}
    return means


def energy_counts(record: Record, step: int) -> energy.Counts:
    """Return the operations of one inference up to a step that the record holds."""
    result, total = record.result, record.inputs.tested
    assert result is not None
    at = result.steps.index(step)

    def neuron_operations(kind: str) -> float:
        return float((result.first_pass + step) * sum(p.neurons * getattr(p, kind) for p in result.populations))

    return energy.Counts(
        macs=record.ann.macs,
        first_macs=sum(p.macs for p in result.populations if p.constant),
        events={kind: counts[at] / total for kind, counts in result.events.items()},
        spikes={kind: counts[at] / total for kind, counts in result.spikes.items()},
        additions=neuron_operations("additions"),
        multiplications=neuron_operations("multiplications"),
        transcendentals=neuron_operations("transcendentals"),
    )


def _energies(counts: energy.Counts, cost: energy.Costs) -> dict[str, float]:
    whole, plain, honest = energy.ann(counts, cost), energy.paper(counts, cost), energy.strict(counts, cost)
    return {
        "synaptic_events": sum(counts.events.values()),
        "synaptic_spikes": sum(counts.spikes.values()),
        "graded_events": counts.events.get("graded", 0.0),
        "neuron_operations": counts.additions + counts.multiplications + counts.transcendentals,
        "first_macs": counts.first_macs,
        "ann_macs": counts.macs,
        "ann_pj": whole,
        "paper_first_pj": plain.first,
        "paper_synapses_pj": plain.synapses,
        "paper_pj": plain.total,
        "paper_ratio": plain.total / whole,
        "strict_first_pj": honest.first,
        "strict_synapses_pj": honest.synapses,
        "strict_neurons_pj": honest.neurons,
        "strict_pj": honest.total,
        "strict_ratio": honest.total / whole,
    }
