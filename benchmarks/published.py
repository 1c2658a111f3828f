"""Published figures beside our measurement of the same rule, and those of methods that need another ANN; plain text."""

from collections.abc import Iterable

from baselines.reference import REFERENCE
from benchmarks.markdown import NONE, percent
from benchmarks.paper import paper
from benchmarks.records import PublishedFields
from benchmarks.tables import Row, Section, ranked_rows

PUBLISHED = ("Published method", "ANN, %", "SNN, %", "T", "source")
OURS = ("ours", "our ANN, %", "our SNN, %", "our T")
TEXT = ("Network", "Published method", "source", "ours")
"""Columns that hold text."""
BESIDE = (
    "Published figures stand beside our measurement of the same rule, at the published T or at our largest checkpoint"
    " below it; they come from other trained networks and other recipes and are never ranked."
)
ONLY = "These need an ANN that is trained or fine-tuned for conversion, so they are not run here and never ranked."


def beside(net: Section) -> list[tuple[str, ...]]:
    """Return the published rows of a network's task, each with what we measured or why there is nothing."""
    return [(*_texts(p), *_ours(net, p)) for p in net.first.task.published]


def reference(tasks: Iterable[str]) -> list[tuple[str, ...]]:
    """Return (task and network, published columns) of methods that change the ANN, for some tasks."""
    known = set(tasks)
    return [
        (f"{r.dataset} {r.row.model}", *_texts(PublishedFields(method=r.row.method, ann=r.row.ann, snn=r.row.snn,
                                                               steps=r.row.steps, source=r.row.source)))
        for r in REFERENCE
        if r.dataset in known
    ]  # fmt: skip


def _texts(p: PublishedFields) -> tuple[str, ...]:
    return (
        p.method, NONE if p.ann is None else f"{p.ann:g}", f"{p.snn:g}", NONE if p.steps is None else str(p.steps),
        p.source,
    )  # fmt: skip


def _ours(net: Section, p: PublishedFields) -> tuple[str, ...]:
    ours = paper().published.get(p.method)
    row = ranked_rows(net).get(ours or "")
    if row is None:
        return ("not among ours" if ours is None else f"{ours}: not run", *[NONE] * 3)
    if not row.results:
        return (f"{row.label}: {row.fault.split(':')[0]}", *[NONE] * 3)
    return (row.label, *_measured(row, p.steps))


def _measured(row: Row, steps: int | None) -> tuple[str, str, str]:
    result, total = row.results[0], row.first.inputs.tested
    at = max((t for t in result.steps if steps is None or t <= steps), default=result.steps[0])
    right = [r.correct[r.steps.index(at)] for r in row.results]
    return percent([row.first.ann.correct], total), percent(right, total), str(at)
