"""The tables of index.html as plain cells: text to show, value to sort by, records to open."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from benchmarks import markdown as md
from benchmarks.board import VIEWS, board
from benchmarks.tables import (
    ENERGY_EPSILON,
    EPSILONS,
    SIN_STEP,
    Row,
    Section,
    energy_means,
    nearest,
    site_numbers,
    sites,
)
from msat import energy

Files = Mapping[int, str]
"""Where each record lies, relative to the page, by the record's id in memory."""


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table."""

    text: str
    value: float | None = None
    """Sorts the column; text sorts by itself."""
    links: tuple[tuple[str, str], ...] = ()
    """(text, address) of records."""


@dataclass(frozen=True)
class Table:
    """A table that can be sorted, filtered and downloaded; the first column is the network where there are several."""

    name: str
    title: str
    note: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def place(net: Section) -> str:
    """Return the name of a network as the page shows it."""
    return f"{net.task} {net.model}"


def rank_table(nets: Sequence[Section]) -> Table:
    """Return the mean ranks of the three views."""
    boards = [board(view, nets) for view in VIEWS]
    rows = [
        (Cell(label), *(Cell(f"{b.means[label]:.2f}", b.means[label]) for b in boards)) for label in boards[0].means
    ]
    names = ("Method", *(view.title for view in VIEWS))
    note = f"Mean ranks over tasks, 1 is best, on: {', '.join(map(place, nets))}. LEADERBOARD.md says how."
    return Table("ranks", "Mean ranks", note, names, tuple(rows))


def method_table(nets: Sequence[Section], files: Files) -> Table:
    """Return one row for each method on each network."""
    names = ("Network", "Method", "records", "T", "right at T, %", *(f"settled, {e:g} pt" for e in EPSILONS), "best step", "real T",
             "agrees, %", "spikes", "SIN, last site, %", "worst site")  # fmt: skip
    rows = tuple(_method_row(net, row, files) for net in nets for row in net.rows)
    note = (
        "Right answers with 95 % Wilson interval, or ± standard deviation over seeds. Settled: first step from which accuracy"
        " stays within so many points of the ANN. Best step: as papers print it, chosen on the test inputs."
        f" SIN at the checkpoint nearest to step {SIN_STEP}; worst site: largest relative conversion error at T."
    )
    return Table("methods", "Methods", note, names, rows)


def _method_row(net: Section, row: Row, files: Files) -> tuple[Cell, ...]:
    links = tuple((f"seed {record.cell.seed}", files[id(record)]) for record in row.records)
    head = (Cell(place(net)), Cell(row.label), Cell("", None, links), Cell(str(row.steps), row.steps))
    if not row.results:
        return (*head, Cell(row.fault), *[Cell(md.NONE)] * (len(EPSILONS) + 6))
    total, results = row.first.inputs.tested, row.results
    latencies = [row.latency(points) for points in EPSILONS]
    errors = [mean(v) for v in zip(*([_error(s) for s in sites(r)] for r in results), strict=True)]
    return (
        *head,
        _share([r.correct[-1] for r in results], total, True),
        *(Cell(md.steps(found), _mean(found)) for found in latencies),
        Cell(md.steps(row.best()), _mean(row.best())),
        Cell(str(results[0].real_latency[-1]), results[0].real_latency[-1]),
        _share([r.agree[-1] for r in results], total),
        Cell(row.first.method.spike_kind),
        _sin(row),
        Cell(f"{errors.index(max(errors)) + 1} ({md.number(max(errors), 2)})", max(errors))
        if errors
        else Cell(md.NONE),
        Cell("", None, links),
    )


def _error(site: Any) -> float:
    return site_numbers(site, -1)["relative_error"]


def _sin(row: Row) -> Cell:
    at = nearest(row.results[0].checkpoints, SIN_STEP)
    last = [sites(r)[-1] for r in row.results if sites(r)]
    if not last:
        return Cell(md.NONE)
    ratio = 100 * mean(site_numbers(site, at)["sin_ratio"] for site in last)
    return Cell(f"{ratio:.1f}", ratio)


def _share(right: Sequence[int], total: int, interval: bool = False) -> Cell:
    return Cell(md.percent(right, total, interval), mean(right) / total)


def _mean(found: Sequence[int | None]) -> float | None:
    known = [t for t in found if t is not None]
    return mean(known) if known and len(known) == len(found) else None


def accuracy_table(nets: Sequence[Section]) -> Table:
    """Return accuracy at every checkpoint."""
    steps = sorted({t for net in nets for t in net.checkpoints})
    rows = tuple((Cell(place(net)), Cell(row.label), *_curve(row, steps)) for net in nets for row in net.rows)
    names = ("Network", "Method", *(f"T = {t}" for t in steps))
    note = "Right answers, percent; mean and standard deviation over seeds where there are several."
    return Table("accuracy", "Accuracy at every checkpoint", note, names, rows)


def _curve(row: Row, steps: Sequence[int]) -> list[Cell]:
    if not row.results:
        return [Cell(row.fault.split(":")[0])] * len(steps)
    total = row.first.inputs.tested
    known = {t: [r.correct[r.steps.index(t)] for r in row.results] for t in row.results[0].checkpoints}
    return [_share(known[t], total) if t in known else Cell(md.NONE) for t in steps]


def energy_table(nets: Sequence[Section], costs: str) -> Table:
    """Return operations and energy at T and where accuracy has settled, under both accountings."""
    cost = energy.costs(costs)
    columns = {
        "events": "synaptic_events", "neuron operations": "neuron_operations", "paper, pJ": "paper_pj",
        "paper: first layer": "paper_first_pj", "paper: synapses": "paper_synapses_pj", "paper / ANN": "paper_ratio",
        "strict, pJ": "strict_pj", "strict: first layer": "strict_first_pj", "strict: synapses": "strict_synapses_pj",
        "strict: neurons": "strict_neurons_pj", "strict / ANN": "strict_ratio",
    }  # fmt: skip
    rows = [row for net in nets for row in _energy_rows(net, cost, list(columns.values()))]
    note = (
        f"One inference, mean over inputs and seeds; at T, and where accuracy has settled within {ENERGY_EPSILON:g} point."
        f" Costs: {cost.source}."
    )
    return Table("energy", "Operations and energy", note, ("Network", "Method", "at", "t", *columns), tuple(rows))


def _energy_rows(net: Section, cost: energy.Costs, columns: Sequence[str]) -> list[tuple[Cell, ...]]:
    means = energy_means(net, cost)
    rows: list[tuple[Cell, ...]] = []
    for row in net.rows:
        head = (Cell(place(net)), Cell(row.label))
        for at in ("T", "settled") if row.results else ("",):
            values = means.get((row.label, row.steps, at))
            if values is None:
                why = f"{at}: not within T" if at else row.fault.split(":")[0]
                rows.append((*head, Cell(why), *[Cell(md.NONE)] * (len(columns) + 1)))
                continue
            cells = [Cell(md.number(values[c]), values[c]) for c in columns]
            rows.append((*head, Cell(at), Cell(f"{values['step']:.0f}", values["step"]), *cells))
    return rows
