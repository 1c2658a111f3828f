"""The tables of index.html as plain cells: text to show, value to sort by, colour, records to open."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from benchmarks import markdown as md
from benchmarks.board import Board, board
from benchmarks.costs import energy_means
from benchmarks.energies import accounting
from benchmarks.leaderboard import mark, mean_title, network_cell, place, sets_note
from benchmarks.published import BESIDE, ONLY, OURS, PUBLISHED, beside, reference
from benchmarks.tables import (
    ENERGY_EPSILON,
    EPSILONS,
    SIN_STEP,
    Row,
    Section,
    nearest,
    site_means,
    sites,
)
from benchmarks.views import VIEWS
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
    heat: int | None = None
    """Strength of the cell's colour, percent."""


@dataclass(frozen=True)
class Table:
    """A table that can be sorted, filtered and downloaded; the first column is the network where there are several."""

    name: str
    title: str
    note: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def rank_tables(nets: Sequence[Section]) -> list[Table]:
    """Return the ranks in each view, as LEADERBOARD.md has them."""
    return [_rank_table(board(view, nets)) for view in VIEWS]


def _rank_table(found: Board) -> Table:
    rows = tuple(
        (
            Cell(label + mark(found, label)),
            *(Cell(f"{m.means[label]:.2f}", m.means[label]) if label in m.means else Cell(md.NONE) for m in found.sets),
            *(_rank(found, label, index) for index in range(len(found.networks))),
        )
        for label in found.order
    )
    names = ("Method", *map(mean_title, found.sets), *map(place, found.networks))
    note = [
        found.view.note, "Networks: rank among all methods that rank there, and the number behind it.",
        *sets_note(found), "LEADERBOARD.md says more.",
    ]  # fmt: skip
    return Table(
        f"ranks-{found.view.name}",
        f"Ranks: {found.view.title[0].lower()}{found.view.title[1:]}",
        " ".join(note),
        names,
        rows,
    )


def _rank(found: Board, label: str, index: int) -> Cell:
    rank, _ = found.ranks[label].get(index, (None, ""))
    return Cell(network_cell(found, label, index), rank)


def method_table(nets: Sequence[Section], files: Files) -> Table:
    """Return one row for each method on each network."""
    names = ("Network", "Method", "records", "T", "right at T, %", *(f"settled, {e:g} pt" for e in EPSILONS), "best step, nominal", "real T",
             "agrees at T, %", "spikes", "SIN, last site, %", "worst site")  # fmt: skip
    rows = tuple(_method_row(net, row, files) for net in nets for row in net.rows)
    note = (
        "Right answers with 95 % Wilson interval, or ± standard deviation over seeds. Settled: real steps until the answer from which on accuracy"
        " is at most so many points below the ANN's (– : not within T). Best step: as papers print it, chosen on the test inputs."
        f" SIN at the checkpoint nearest to step {SIN_STEP}; worst site: largest relative conversion error at T."
    )
    return Table("methods", "Methods", note, names, rows)


def _method_row(net: Section, row: Row, files: Files) -> tuple[Cell, ...]:
    links = tuple((f"seed {record.cell.seed}", files[id(record)]) for record in row.records)
    head = (Cell(place(net)), Cell(net.name(row)), Cell("", None, links), Cell(str(row.steps), row.steps))
    if not row.results:
        return (*head, Cell(row.fault), *[Cell(md.NONE)] * (len(EPSILONS) + 6))
    total, results = row.first.inputs.tested, row.results
    latencies = [row.real_latency(points) for points in EPSILONS]
    errors = site_means(row, -1, "relative_error")
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
    )


def _sin(row: Row) -> Cell:
    if not all(map(sites, row.results)):
        return Cell(md.NONE)
    ratio = 100 * site_means(row, nearest(row.results[0].checkpoints, SIN_STEP), "sin_ratio")[-1]
    return Cell(f"{ratio:.1f}", ratio)


def sin_table(nets: Sequence[Section]) -> Table:
    """Return the SIN ratio of every site."""
    note = (
        f"Percent of the neurons that should be silent and have fired by the checkpoint nearest to step {SIN_STEP}; on"
        " calibration inputs, mean over seeds. The names of the sites stand on each network's page."
    )

    def cells(row: Row) -> Iterator[Cell]:
        at = nearest(row.results[0].checkpoints, SIN_STEP)
        yield Cell(str(row.results[0].checkpoints[at]), row.results[0].checkpoints[at])
        for ratio in site_means(row, at, "sin_ratio"):
            yield Cell(f"{100 * ratio:.1f}", ratio, heat=round(70 * ratio))

    return Table("sin", "Spikes of inactivated neurons (SIN) per site", note, *_per_site(nets, "at t", cells))


def error_table(nets: Sequence[Section]) -> Table:
    """Return the conversion error of every site."""
    note = (
        "Squared difference between mean output and activation at T, relative to the squared activation; on calibration"
        " inputs, mean over seeds. Colour: from 0.00001 to 1."
    )

    def cells(row: Row) -> Iterator[Cell]:
        errors = site_means(row, -1, "relative_error")
        yield Cell(str(errors.index(max(errors)) + 1), errors.index(max(errors)) + 1)
        for error in errors:
            depth = 1 + math.log10(max(error, 1e-5)) / 5  # 0 at 1e-5, 1 at 1
            yield Cell(md.number(error, 2), error, heat=round(70 * min(1.0, depth)))

    return Table("errors", "Conversion error per site", note, *_per_site(nets, "worst site", cells))


def _per_site(nets: Sequence[Section], first: str, cells: Callable[[Row], Iterator[Cell]]) -> Any:
    """Return headers and rows of a table with a column for each site; networks with fewer sites leave the last ones empty."""
    found = [(net, row, list(cells(row)) if all(map(sites, row.results)) and row.results else None)
             for net in nets for row in net.rows]  # fmt: skip
    width = max((len(line) for _, _, line in found if line), default=1)
    rows = []
    for net, row, line in found:
        line = line or [Cell(row.fault.split(":")[0] or md.NONE)]
        rows.append((Cell(place(net)), Cell(net.name(row)), *line, *[Cell("")] * (width - len(line))))
    return ("Network", "Method", first, *(f"site {n}" for n in range(1, width))), tuple(rows)


def published_tables(nets: Sequence[Section]) -> list[Table]:
    """Return published rows beside ours, and the published-only ones."""
    measured = tuple(_texts((place(net), *row)) for net in nets for row in beside(net))
    only = tuple(_texts(row) for row in reference({net.task for net in nets}))
    names = ("Network", "Method", *PUBLISHED[1:])
    tables = [
        Table("published", "Published and measured", BESIDE, (*names, *OURS), measured),
        Table("reference", "Published only: methods that change the ANN", ONLY, names, only),
    ]
    return [table for table in tables if table.rows]


def _texts(row: Sequence[str]) -> tuple[Cell, ...]:
    return tuple(Cell(text, _leading(text)) for text in row)


def _leading(text: str) -> float | None:
    """Return the number that a text begins with, so that its column sorts by it."""
    found = re.match(r"-?\d+(\.\d+)?(?=$| )", text)
    return float(found[0]) if found else None


def _share(right: Sequence[int], total: int, interval: bool = False) -> Cell:
    return Cell(md.percent(right, total, interval), mean(right) / total)


def _mean(found: Sequence[int | None]) -> float | None:
    known = [t for t in found if t is not None]
    return mean(known) if known and len(known) == len(found) else None


def accuracy_table(nets: Sequence[Section]) -> Table:
    """Return accuracy at every checkpoint."""
    steps = sorted({t for net in nets for t in net.checkpoints})
    rows = tuple((Cell(place(net)), Cell(net.name(row)), *_curve(net, row, steps)) for net in nets for row in net.rows)
    names = ("Network", "Method", *(f"T = {t}" for t in steps))
    note = "Right answers, percent; mean and standard deviation over seeds where there are several; – : behind the row's T."
    return Table("accuracy", "Accuracy at every checkpoint", note, names, rows)


def _curve(net: Section, row: Row, steps: Sequence[int]) -> list[Cell]:
    """Return the accuracies of a row; nothing for a step that no method of the network was run for."""
    if not row.results:
        return [Cell(row.fault.split(":")[0] if t in net.checkpoints else "") for t in steps]
    total = row.first.inputs.tested
    known = {t: [r.correct[r.steps.index(t)] for r in row.results] for t in row.results[0].checkpoints}
    return [_share(known[t], total) if t in known else Cell(md.NONE if t in net.checkpoints else "") for t in steps]


def energy_table(nets: Sequence[Section], costs: str) -> Table:
    """Return operations and energy at T and where accuracy has settled, under both accountings."""
    cost = energy.costs(costs)
    columns = {
        "events": "synaptic_events", "neuron operations": "neuron_operations", "paper, µJ": "paper_pj",
        "paper: before spikes": "paper_first_pj", "paper: synapses": "paper_synapses_pj", "paper / ANN": "paper_ratio",
        "strict, µJ": "strict_pj", "strict: before spikes": "strict_first_pj", "strict: synapses": "strict_synapses_pj",
        "strict: neurons": "strict_neurons_pj", "strict / ANN": "strict_ratio",
    }  # fmt: skip
    rows = [row for net in nets for row in _energy_rows(net, cost, list(columns.values()))]
    note = (
        f"One inference, mean over inputs and seeds; at T, and where accuracy has settled within {ENERGY_EPSILON:g} point."
        f" {accounting(cost)}"
    )
    return Table(
        "energy", "Operations and energy", note, ("Network", "Method", "at", "t, nominal", *columns), tuple(rows)
    )


def _quantity(column: str, value: float) -> str:
    return md.microjoules(value) if column.endswith("_pj") else md.number(value)


def _energy_rows(net: Section, cost: energy.Costs, columns: Sequence[str]) -> list[tuple[Cell, ...]]:
    means = energy_means(net, cost)
    rows: list[tuple[Cell, ...]] = []
    for row in net.rows:
        head = (Cell(place(net)), Cell(net.name(row)))
        for at in ("T", "settled") if row.results else ("",):
            values = means.get((row.label, row.steps, at))
            if values is None:
                why = f"{at}: not within T" if at else row.fault.split(":")[0]
                rows.append((*head, Cell(why), *[Cell(md.NONE)] * (len(columns) + 1)))
                continue
            cells = [Cell(_quantity(c, values[c]), values[c]) for c in columns]
            rows.append((*head, Cell(at), Cell(f"{values['step']:.0f}", values["step"]), *cells))
    return rows
