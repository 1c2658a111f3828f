"""results/LEADERBOARD.md: ranks over all tasks, published beside measured figures, and the paper's energy rebuilt."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks import markdown as md
from benchmarks.board import Board, Means, board, by_kind, left_out, networks
from benchmarks.energies import rebuilt_energy
from benchmarks.published import BESIDE, ONLY, OURS, PUBLISHED, TEXT, beside, reference
from benchmarks.records import Record
from benchmarks.tables import Section, labels, ranked_rows, sections
from benchmarks.views import SAME, VIEWS

LEAST_TASKS = 5
"""Fewest tasks for which a critical difference says something."""
HOW = (
    f"Ranks, 1 is best; {SAME}. A network's column has the number of methods that rank on it in its head, and in its"
    " cells the rank among all of those and the number behind it. A mean rank is over tasks (over a task's networks"
    " first), computed only among the methods that have a record on every network of the set. A method without a mean"
    " rank was not run somewhere, or ran for too few steps to tell its place (its number stands there without a rank),"
    " as its row shows. A method that failed or was skipped on a network, or gives no number there, ranks last on it."
    " Stochastic methods enter with their mean over seeds and are tested with their first seed."
)
Diagrams = Mapping[str, Callable[[Path], None]]


def leaderboard(records: Sequence[Record]) -> tuple[str, Diagrams]:
    """Return the Markdown text and the diagrams to draw, by file name."""
    blocks, diagrams = ["# Leaderboard", HOW], {}
    for (profile, kind), group in by_kind(records).items():
        parts = all_sections(group)
        nets = networks(parts)
        title = "Real data" if kind == "real" else "Sample data"
        blocks.append(f"## {title} (profile {md.escape(profile)})")
        if kind != "real":
            blocks.append("Embedded sample data and small networks: for a quick look, not comparable with the papers.")
        blocks.append("\n".join(map(basis, nets)))
        for view in VIEWS:
            ranks = board(view, nets)
            blocks += board_table(ranks)
            for means in _enough(ranks):
                name = f"critical-difference-{profile}-{view.name}.svg"
                diagrams[name] = partial(_draw, view.title, means)
                blocks.append(f"![Critical difference, {view.title}]({name})")
        blocks += _left_out(parts)
        if profile == "full":
            blocks += [*published(nets), *rebuilt_energy(nets)]
    return "\n\n".join(blocks) + "\n", diagrams


def basis(net: Section) -> str:
    """Return a line on what a network's ranks rest on: data, inputs, the ANN, T and seeds."""
    first, total = net.first, net.first.inputs.tested
    steps = ", ".join(map(str, sorted({row.steps for row in net.rows})))
    several = [row.label for row in net.rows if len(row.records) > 1]
    seeds = max(len(row.records) for row in net.rows)
    return (
        f"- {md.escape(place(net))}: {md.escape(first.data.label)}; {total:,} test inputs;"
        f" ANN {md.percent([first.ann.correct], total)} %; T = {steps}; seeds: 1"
        + (f" ({seeds} for {', '.join(map(md.escape, several))})" if several else "")
    )


def _enough(ranks: Board) -> list[Means]:
    """Return the mean ranks to draw a critical difference of: the first of enough tasks and more than two methods."""
    return [means for means in ranks.sets if means.tasks >= LEAST_TASKS and len(means.means) > 2][:1]


def all_sections(records: Sequence[Record]) -> list[Section]:
    """Return the sections of several tasks; a method whose default has changed between two of them is two methods."""
    called = labels(records)
    tasks: dict[str, list[Record]] = {}
    for record in records:
        tasks.setdefault(record.cell.task, []).append(record)
    return [part for _, group in sorted(tasks.items()) for part in sections(group, called)]


def board_table(found: Board) -> list[str]:
    """Return one view: its title, what it is, and the ranks."""
    names = ["Method", *map(mean_title, found.sets), *(f"{place(net)} ({n})" for net, n in _sizes(found))]
    rows = [
        [
            md.escape(label) + mark(found, label),
            *(f"{means.means[label]:.2f}" if label in means.means else md.NONE for means in found.sets),
            *(network_cell(found, label, index) for index in range(len(found.networks))),
        ]
        for label in found.order
    ]
    note = md.escape(" ".join([found.view.note, *sets_note(found)]))
    return [f"### {found.view.title}", note, md.table(list(map(md.escape, names)), rows)]


def _sizes(found: Board) -> list[tuple[Section, int]]:
    """Return the networks with the number of methods that rank on each."""
    return [(net, found.size(index)) for index, net in enumerate(found.networks)]


def mean_title(means: Means) -> str:
    """Return the heading of a column of mean ranks."""
    return f"mean rank, {len(means.networks)} networks"


def sets_note(found: Board) -> list[str]:
    """Return a sentence on each column of mean ranks: who takes part."""
    return [
        f"Mean rank, {len(means.networks)} networks: among the {len(means.means)} methods that rank on all of"
        f" {', '.join(map(place, means.networks))}."
        for means in found.sets
    ]


def mark(found: Board, label: str) -> str:
    """Return what a method is where it is not a published post-training rule."""
    text = next(rows[label].first.method.mark for rows in map(ranked_rows, found.networks) if label in rows)
    return f" ({text})" if text else ""


def network_cell(found: Board, label: str, index: int) -> str:
    """Return a method's rank on a network with the number behind it, or why there is none."""
    if index not in found.ranks[label]:
        return "not run"
    rank, text = found.ranks[label][index]
    fault = ranked_rows(found.networks[index])[label].fault.split(":")[0]
    return f"too short · {text}" if rank is None else f"{rank:g} · {fault or text}"


def _draw(title: str, means: Means, file: Path) -> None:
    from benchmarks.critical import critical_difference  # scipy.stats is slow to import

    critical_difference(title, means, file)


def _left_out(parts: Sequence[Section]) -> list[str]:
    lines = [f"- {md.escape(text)}" for text in left_out(parts)]
    why = "Of each network those records rank that have most test inputs, then most methods; these do not:"
    return ["### Not ranked", why, "\n".join(lines)] if lines else []


def place(net: Section) -> str:
    """Return the name of a network across tasks."""
    return f"{net.task} {net.model}"


def published(nets: Sequence[Section]) -> list[str]:
    """Return published rows beside ours, and the published-only ones that need another ANN."""
    rows = [[md.escape(text) for text in (place(net), *row)] for net in nets for row in beside(net)]
    only = [[md.escape(text) for text in row] for row in reference({net.task for net in nets})]
    blocks = []
    if rows:
        title = "### Published and measured (Tables 3 to 5 of the paper, and others)"
        blocks += [title, BESIDE, md.table(["Network", *PUBLISHED, *OURS], rows, TEXT)]
    if only:
        title = "### Published only: methods that change the ANN"
        blocks += [title, ONLY, md.table(["Network", *PUBLISHED], only, TEXT)]
    return blocks
