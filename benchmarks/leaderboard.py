"""results/LEADERBOARD.md: ranks over all tasks, published beside measured figures, and the paper's energy rebuilt."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from baselines.reference import REFERENCE
from benchmarks import markdown as md
from benchmarks.board import SAME, VIEWS, Board, board, by_kind, comparable, complete, networks, ranked_rows
from benchmarks.paper import paper
from benchmarks.records import PublishedFields, Record
from benchmarks.tables import Row, Section, energy_counts, sections
from msat import energy

LEAST_TASKS = 5
"""Fewest tasks for which a critical difference says something."""
Diagrams = Mapping[str, Callable[[Path], None]]


def leaderboard(records: Sequence[Record]) -> tuple[str, Diagrams]:
    """Return the Markdown text and the diagrams to draw, by file name."""
    blocks, diagrams = ["# Leaderboard", _how()], {}
    for (profile, kind), group in by_kind(records).items():
        parts = all_sections(group)
        nets = networks(parts)
        title = "Real data" if kind == "real" else "Sample data"
        blocks.append(f"## {title} (profile {md.escape(profile)})")
        if kind != "real":
            blocks.append("Embedded sample data and small networks: for a quick look, not comparable with the papers.")
        ranking = comparable(nets)
        for view in VIEWS:
            ranks = board(view, ranking)
            blocks += board_table(ranks)
            if _tasks(ranking) >= LEAST_TASKS and len(ranks.means) > 2:
                name = f"critical-difference-{profile}-{view.name}.svg"
                diagrams[name] = partial(_draw, ranks)
                blocks.append(f"![Critical difference, {view.title}]({name})")
        blocks += _incomplete(nets, ranking)
        if profile == "full":
            blocks += [*published(nets), *rebuilt_energy(nets)]
    return "\n\n".join(blocks) + "\n", diagrams


def all_sections(records: Sequence[Record]) -> list[Section]:
    """Return the sections of several tasks."""
    tasks: dict[str, list[Record]] = {}
    for record in records:
        tasks.setdefault(record.cell.task, []).append(record)
    return [part for _, group in sorted(tasks.items()) for part in sections(group)]


def _how() -> str:
    return (
        f"Mean ranks over tasks (over a task's networks first), 1 is best; {SAME}. Cells show the rank on a network and the"
        " number behind it. A method that failed or was skipped on a network, or gives no number there, ranks last on it."
        " Only methods that have a record on every network that a section ranks on rank. Stochastic methods enter with their mean over"
        " seeds and are tested with their first seed."
    )


def _tasks(nets: Sequence[Section]) -> int:
    return len({net.task for net in nets})


def board_table(found: Board) -> list[str]:
    """Return one view: its title, what it is, and the ranks."""
    title = [f"### {found.view.title}", found.view.note]
    if not found.means:
        return [*title, "No method has a record on every network yet."]
    names = ["Method", "mean rank", *map(_place, found.networks)]
    rows = [
        [
            md.escape(label) + _mark(found, label), f"{value:.2f}",
            *(_cell(found, label, index) for index in range(len(found.networks))),
        ]
        for label, value in found.means.items()
    ]  # fmt: skip
    return [*title, md.table(names, rows)]


def _mark(found: Board, label: str) -> str:
    category = ranked_rows(found.networks[0])[label].first.method.category
    return "" if category == "post-training" else f" ({category})"


def _cell(found: Board, label: str, index: int) -> str:
    rank, text = found.ranks[label][index]
    fault = ranked_rows(found.networks[index])[label].fault.split(":")[0]
    return f"{rank:g} · {fault or text}"


def _draw(ranks: Board, file: Path) -> None:
    from benchmarks.critical import critical_difference  # scipy.stats is slow to import

    critical_difference(ranks, file)


def _incomplete(nets: Sequence[Section], ranking: Sequence[Section]) -> list[str]:
    """Say which networks and methods have no part in the ranks, and why."""
    lines = [
        f"- {_place(net)}: left out, for too few of the methods were run on it" for net in nets if net not in ranking
    ]
    everywhere = complete(ranking)
    for name in sorted({name for net in ranking for name in ranked_rows(net)}.difference(everywhere)):
        places = ", ".join(_place(net) for net in ranking if name in ranked_rows(net))
        lines.append(f"- {md.escape(name)}: no record except on {places}")
    return ["### Not ranked", "\n".join(lines)] if lines else []


def _place(net: Section) -> str:
    return f"{md.escape(net.task)} {md.escape(net.model)}"


def published(nets: Sequence[Section]) -> list[str]:
    """Return published rows beside ours, and the published-only ones that need another ANN."""
    rows = [_published_row(net, p) for net in nets for p in net.first.task.published]
    names = ["Task", "Network", "Published method", "ANN, %", "SNN, %", "T", "source", "ours", "our ANN, %",
             "our SNN, %", "our T"]  # fmt: skip
    beside = (
        "Published figures stand beside our measurement of the same rule, at the published T or at our largest checkpoint"
        " below it; they come from other trained networks and are never ranked."
    )
    blocks = ["### Published and measured (Tables 3 to 5 of the paper, and others)", beside, md.table(names, rows)]
    if not rows:
        blocks = []
    return [*blocks, *_reference(nets)]


def _published_row(net: Section, p: PublishedFields) -> list[str]:
    there = [
        md.escape(net.task), md.escape(net.model), md.escape(p.method), md.NONE if p.ann is None else f"{p.ann:g}",
        f"{p.snn:g}", md.NONE if p.steps is None else str(p.steps), md.escape(p.source),
    ]  # fmt: skip
    ours = paper().published.get(p.method)
    row = ranked_rows(net).get(ours or "")
    if row is None:
        return [*there, "not among ours" if ours is None else "not run", *[md.NONE] * 3]
    if not row.results:
        return [*there, row.fault.split(":")[0], *[md.NONE] * 3]
    return [*there, md.escape(row.label), *_measured(row, p.steps)]


def _measured(row: Row, steps: int | None) -> list[str]:
    result, total = row.results[0], row.first.inputs.tested
    at = max((t for t in result.steps if steps is None or t <= steps), default=result.steps[0])
    right = [r.correct[r.steps.index(at)] for r in row.results]
    return [md.percent([row.first.ann.correct], total), md.percent(right, total), str(at)]


def _reference(nets: Sequence[Section]) -> list[str]:
    tasks = {net.task for net in nets}
    rows = [
        [
            md.escape(r.dataset), md.escape(r.row.model), md.escape(r.row.method),
            md.NONE if r.row.ann is None else f"{r.row.ann:g}", f"{r.row.snn:g}", str(r.row.steps or md.NONE),
            md.escape(r.row.source),
        ]
        for r in REFERENCE
        if r.dataset in tasks
    ]  # fmt: skip
    if not rows:
        return []
    names = ["Task", "Network", "Published method", "ANN, %", "SNN, %", "T", "source"]
    note = "These need an ANN that is trained or fine-tuned for conversion, so they are not run here and never ranked."
    return ["### Published only: methods that change the ANN", note, md.table(names, rows)]


def rebuilt_energy(nets: Sequence[Section]) -> list[str]:
    """Return the paper's energy ratio, what its formula gives from the released rates, and ours where it was measured."""
    claim = paper().energy
    lines = [
        f"The paper's converted {md.escape(claim.task)} {md.escape(claim.model)} is said to need"
        f" {100 * claim.published_ratio:.2f} % of the ANN's energy. From the rates that the authors released for"
        f" {md.escape(claim.method)} at T = {claim.steps}, the paper's formula (AC 0.9 pJ, MAC 4.6 pJ, first layer once) gives"
        f" {100 * claim.rebuilt():.1f} %, and {100 * claim.rebuilt(graded=True):.0f} % if its graded spikes are charged as"
        " multiply-accumulates, which they are: the published figure could not be rebuilt."
    ]
    for net in nets:
        row = ranked_rows(net).get(claim.method)
        if net.task != claim.task or row is None or not row.results:
            continue
        for step in [t for t in row.results[0].checkpoints if t == claim.steps]:
            counts, cost = energy_counts(row.first, step), energy.costs()
            whole = energy.ann(counts, cost)
            lines.append(
                f"Measured here on {md.escape(net.model)} at T = {step}: {100 * energy.paper(counts, cost).total / whole:.1f} %"
                f" (paper's accounting), {100 * energy.strict(counts, cost).total / whole:.0f} % (strict)."
            )
    return ["### The paper's energy, rebuilt", " ".join(lines)]
