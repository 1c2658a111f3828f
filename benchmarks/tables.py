"""The numbers of the tables, from records alone: plain frames, one row per method, and long frames for CSV files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import pandas as pd

from benchmarks.cells import label
from benchmarks.records import Population, Record, Result
from benchmarks.statistics import first_reach, needed, settled, wilson

EPSILONS = (0.0, 0.1, 1.0)
"""Percentage points below the ANN that count as reached."""
SIN_STEP = 16
"""The SIN table shows the checkpoint nearest to this step (methods.md A.6)."""
ENERGY_EPSILON = 1.0
"""Energy is shown at T and where accuracy has settled within this many points."""


@dataclass(frozen=True)
class Row:
    """A method with its parameters and T on one network: the records of its seeds, at least one."""

    label: str
    steps: int
    records: tuple[Record, ...]

    @property
    def first(self) -> Record:
        return self.records[0]

    @property
    def results(self) -> list[Result]:
        """Results of the seeds; empty unless all are done, so that a failure never hides in a mean."""
        results = [record.result for record in self.records if record.result is not None]
        return results if len(results) == len(self.records) else []

    @property
    def fault(self) -> str:
        """Why there are no numbers; empty where there are."""
        bad = [record for record in self.records if record.status != "done"]
        return f"{bad[0].status}: {bad[0].reason}" if bad else ""

    def latency(self, points: float) -> list[int | None]:
        """Return the settled latency of each seed, steps."""
        total, ann = self.first.inputs.tested, self.first.ann.correct
        return [settled(r.steps, r.correct, needed(ann, total, points)) for r in self.results]

    def real_latency(self, points: float) -> list[int | None]:
        """Return the steps until the answer of the settled latency is out, for each seed."""
        found = zip(self.results, self.latency(points), strict=True)
        return [None if step is None else real_step(result, step) for result, step in found]

    def best(self) -> list[int]:
        """Return the step of each seed with most right answers: what papers print, chosen on the test set."""
        return [r.steps[r.correct.index(max(r.correct))] for r in self.results]

    def reached(self, points: float) -> list[int | None]:
        """Return the first step of each seed that is good enough."""
        total, ann = self.first.inputs.tested, self.first.ann.correct
        return [first_reach(r.steps, r.correct, needed(ann, total, points)) for r in self.results]


@dataclass(frozen=True)
class Section:
    """Rows that may stand in one table: same data, same trained network, same inputs."""

    task: str
    model: str
    rows: tuple[Row, ...]

    @property
    def first(self) -> Record:
        return self.rows[0].first

    def name(self, row: Row) -> str:
        """Return what tables and plots call a row: its label, with T where there are rows of the same label."""
        several = sum(other.label == row.label for other in self.rows) > 1
        return f"{row.label} (T = {row.steps})" if several else row.label

    @property
    def checkpoints(self) -> list[int]:
        """All checkpoint steps of all rows."""
        return sorted({t for row in self.rows for result in row.results for t in result.checkpoints})


def sections(records: Sequence[Record], called: Mapping[int, str] | None = None) -> list[Section]:
    """Group the records of one task and profile; rows are ordered by settled latency, then accuracy at T, then name.

    `called`: what `labels` calls them beside the records of other tasks; None for these alone.
    """
    groups: dict[tuple[Any, ...], dict[tuple[str, int], list[Record]]] = {}
    known = called or labels(records)
    for record in records:
        inputs = record.inputs
        key = (record.cell.model, record.data.fingerprint, record.ann.weights, inputs.tested, inputs.calibration_asked)
        row = (known[id(record)], record.cell.steps)
        groups.setdefault(key, {}).setdefault(row, []).append(record)
    return [
        Section(
            next(iter(rows.values()))[0].cell.task,
            str(key[0]),
            tuple(sorted((_row(name, steps, group) for (name, steps), group in rows.items()), key=_order)),
        )
        for key, rows in sorted(groups.items())
    ]


def headings(parts: Sequence[Section]) -> list[str]:
    """Return what tables call each section: its network, with what is not the same in all sections of that network."""
    return [_heading(part, [o for o in parts if (o.task, o.model) == (part.task, part.model)]) for part in parts]


def _heading(part: Section, alike: Sequence[Section]) -> str:
    own, every = _facets(part.first), [_facets(other.first) for other in alike]
    if len({facets[:-1] for facets in every}) == len(every):  # weights are named only where nothing else tells apart
        own, every = own[:-1], [facets[:-1] for facets in every]
    apart = [text for text, *values in zip(own, *every, strict=True) if len(set(values)) > 1]
    return ", ".join([part.model, *apart])


def _facets(record: Record) -> tuple[str, ...]:
    recipe, inputs = record.ann.recipe, record.inputs
    return (
        f"trained {recipe['epochs']} epochs" if recipe else record.ann.origin,
        f"{inputs.tested:,} test inputs",
        f"{inputs.calibration_asked} calibration inputs asked for",
        f"data {record.data.fingerprint[:8]}",
        f"weights {record.ann.weights[:8]}",
    )


def labels(records: Sequence[Record]) -> dict[int, str]:
    """Return what each record's method is called, by the record's id in memory.

    That is its name with the parameters that were asked for, and where a default has changed between two records, which
    are then two methods, also with that parameter.
    """
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        alike.setdefault(label(record.cell.method, record.cell.overrides), []).append(record.cell.parameters)
    changed = {name: _different(parameters) for name, parameters in alike.items()}
    found = {}
    for record in records:
        cell = record.cell
        new = {name: cell.parameters.get(name) for name in changed[label(cell.method, cell.overrides)]}
        found[id(record)] = label(cell.method, {**new, **cell.overrides})
    return found


def _different(parameters: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names whose value is not the same in all; one that is missing somewhere differs."""
    names = dict.fromkeys(name for values in parameters for name in values)
    return [name for name in names if len({repr(values.get(name, ...)) for values in parameters}) > 1]


def _row(name: str, steps: int, records: list[Record]) -> Row:
    return Row(name, steps, tuple(sorted(records, key=lambda record: record.cell.seed)))


def _order(row: Row) -> tuple[float, float, str, int]:
    latencies = row.real_latency(ENERGY_EPSILON)
    found = [t for t in latencies if t is not None]
    late = mean(found) if latencies and len(found) == len(latencies) else float("inf")
    final = mean(r.correct[-1] for r in row.results) if row.results else -1
    return late, -final, row.label, row.steps


def real_step(result: Result, step: int) -> int:
    """Return the steps until the answer of a nominal step is out, by the delay of the checkpoint at or after it."""
    pairs = zip(result.checkpoints, result.real_latency, strict=True)
    delay = next((real - t for t, real in pairs if t >= step), 0)
    return step + delay


def accuracy_frame(section: Section) -> pd.DataFrame:
    """Return one row per method, seed and checkpoint: counts, accuracy and its interval in percent."""
    rows: list[dict[str, Any]] = []
    for row in section.rows:
        for record in row.records:
            head = whose(section, row, record)
            if record.result is None:
                rows.append(head)
                continue
            result, total = record.result, record.inputs.tested
            for index, t in enumerate(result.checkpoints):
                at = result.steps.index(t)
                low, high = wilson(result.correct[at], total)
                rows.append(
                    head
                    | {"step": t, "real_latency": result.real_latency[index], "tested": total,
                       "correct": result.correct[at], "accuracy": 100 * result.correct[at] / total,
                       "low": 100 * low, "high": 100 * high, "agree": result.agree[at],
                       "ann_correct": record.ann.correct}
                )  # fmt: skip
    return pd.DataFrame(rows)


def latency_frame(section: Section) -> pd.DataFrame:
    """Return one row per method and seed: settled latency and first reach for each epsilon, nominal steps unless `real_`."""
    rows = []
    for row in section.rows:
        for index, record in enumerate(row.records):
            found: dict[str, Any] = {}
            for points in EPSILONS if row.results else ():
                found[f"settled_{points:g}"] = row.latency(points)[index]
                found[f"real_settled_{points:g}"] = row.real_latency(points)[index]
                found[f"reached_{points:g}"] = row.reached(points)[index]
            if row.results:
                found |= {"best_step": row.best()[index], "best_correct": max(row.results[index].correct)}
            rows.append(whose(section, row, record) | found)
    return pd.DataFrame(rows).convert_dtypes()


def site_frame(section: Section) -> pd.DataFrame:
    """Return one row per method, seed, site and checkpoint: SIN, ANS, spike confidence and conversion error."""
    rows: list[dict[str, Any]] = []
    for row in section.rows:
        for record in row.records if row.results else ():
            result = record.result
            assert result is not None
            for number, site in enumerate(sites(result), 1):
                for index, t in enumerate(result.checkpoints):
                    counts = {"site": number, "name": site.name, "step": t, "spikes": site.spikes[index]}
                    rows.append(whose(section, row, record) | counts | site_numbers(site, index))
    return pd.DataFrame(rows)


def site_numbers(site: Population, index: int) -> dict[str, float]:
    """Return the ratios of a site at one checkpoint (methods.md A.5, A.6)."""
    d = site.diagnosis
    assert d is not None
    fired = d.sin[index] + d.fired_positive[index]
    return {
        "sin_ratio": _ratio(d.sin[index], d.silent),
        "ans": _ratio(d.sin_spikes[index], d.sin[index]),
        "confidence": 1 - _ratio(d.sin[index], fired),
        "relative_error": _ratio(d.squared_error[index], d.squared_activation),
    }


def site_means(row: Row, index: int, key: str) -> list[float]:
    """Return one ratio of every site at a checkpoint, mean over the row's seeds."""
    seeds = [[site_numbers(site, index)[key] for site in sites(result)] for result in row.results]
    return [mean(values) for values in zip(*seeds, strict=True)]


def sites(result: Result) -> list[Population]:
    """Return the populations that replace ReLUs."""
    return [population for population in result.populations if population.role == "site"]


def thinned(steps: Sequence[int], most: int = 64) -> list[int]:
    """Return positions of at most about `most` steps, evenly spread on a logarithmic axis, the last one among them."""
    if len(steps) <= most:
        return list(range(len(steps)))
    grid = (steps[-1] / steps[0]) ** (1 / (most - 1))
    kept, edge = [], 0.0
    for index, step in enumerate(steps):
        if step >= edge:
            kept.append(index)
            edge = max(step + 0.5, step * grid)
    return kept if kept[-1] == len(steps) - 1 else [*kept, len(steps) - 1]


def nearest(steps: Sequence[int], wanted: int) -> int:
    """Return the position of the step nearest to `wanted`, the earlier one of two."""
    return min(range(len(steps)), key=lambda i: (abs(steps[i] - wanted), i))


def whose(section: Section, row: Row, record: Record) -> dict[str, Any]:
    """Return the first columns of every long frame: whose numbers these are."""
    return {
        "model": section.model, "method": row.label, "T": row.steps, "seed": record.cell.seed,
        "status": record.status, "reason": record.reason,
    }  # fmt: skip


def ranked_rows(section: Section) -> dict[str, Row]:
    """Return the rows that may rank, by label; of one method at several T the largest T."""
    rows: dict[str, Row] = {}
    for row in sorted(section.rows, key=lambda row: row.steps):
        if row.first.method.category != "reference":
            rows[row.label] = row
    return rows


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
