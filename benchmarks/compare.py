"""Two methods, records, result folders or commits side by side on the same test inputs: differences, intervals, who wins."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import markdown as md
from benchmarks.cells import label, names
from benchmarks.costs import energy_counts
from benchmarks.history import records_at
from benchmarks.pairs import ALPHA, bit_rows, difference, holm, mcnemar, only
from benchmarks.records import Record, Result, read_record, reported
from benchmarks.selection import parse, words
from benchmarks.statistics import decimals, needed, settled
from benchmarks.tables import ENERGY_EPSILON, labels, real_step
from msat import energy
from msat.errors import UserError, unknown_name

Key = tuple[object, ...]
Paired = tuple[list[tuple[Record, Record]], tuple[int, int]]
"""Pairs, and how many networks or cells only A and only B has."""


@dataclass(frozen=True)
class Side:
    """One of the two things that are compared."""

    records: Sequence[Record]
    many: bool
    """A folder or a commit: paired cell by cell. Otherwise a method or a record: paired network by network."""


@dataclass(frozen=True)
class Gap:
    """What two records have right of the same inputs at one step."""

    step: int
    right: tuple[int, int]
    only: tuple[int, int]
    """Inputs that only A, and that only B has right."""
    total: int
    p: float
    """Of the exact McNemar test, two-sided."""


def compare(
    first: str,
    second: str,
    results: Path,
    task: str | None = None,
    model: str | None = None,
    profile: str | None = None,
) -> str:
    """Return the comparison as text: a summary where there are several pairs, then each pair that differs.

    Raises:
        UserError: a side is unknown, the two are of different kinds, or they share no network with the same test inputs.
    """
    wanted = _filter(task, model, profile)
    a, b = (side(text, results, wanted) for text in (first, second))
    for text, found in ((first, a), (second, b)):
        if not found.records:
            raise UserError(f"'{text}' holds no done record of this version that was asked for.")
    if a.many != b.many:
        raise UserError(
            f"'{first}' and '{second}' are not the same kind of thing; compare folders or commits with each other, and"
            " methods or records with each other."
        )
    pairs, single = (_cells if a.many else _networks)(a.records, b.records)
    if not pairs:
        what = "method that ran on a network" if a.many else "network"
        raise UserError(
            f"'{first}' and '{second}' share no {what} with the same weights and test inputs; run both with the same"
            f" {'METHODS, ' * a.many}LIMIT and EPOCHS."
        )
    if len(pairs) == 1 and not a.many:
        return "\n\n".join(blocks(*pairs[0]))
    different = [(one, other) for one, other in pairs if _differ(one, other)]
    counts = f"{len(pairs)} pairs, {len(pairs) - len(different)} of them with the same answers and events at every checkpoint"
    alone = f"; only in A: {single[0]}, only in B: {single[1]}." if a.many else "."
    return "\n\n".join(
        [counts + alone, *(summary(different) if different else []), *(b for pair in different for b in blocks(*pair))]
    )


def side(text: str, results: Path, wanted: Callable[[Record], bool]) -> Side:
    """Return what a text names: a record's file, a method's label, a folder of records, or a commit that has records.

    Raises:
        UserError: it names nothing.
    """
    path = Path(text)
    if path.is_file():
        record = read_record(path)
        if record is None or record.result is None:
            raise UserError(f"{path} is not a done record of this version; run its cell with `msat-bench run`.")
        return Side([record], many=False)
    done = _done(reported(results), lambda _: True)
    known = _done(done, wanted)
    called = labels(known)
    method, *parameters = words(text)
    spelled = label(method, {name: parse(value) for name, _, value in (part.partition("=") for part in parameters)})
    for name in (text, spelled):
        if name in called.values():
            return Side([record for record in known if called[id(record)] == name], many=False)
    if path.is_dir():
        return Side(_done(reported(path), wanted), many=True)
    committed = records_at(text, results)
    if committed is None:
        if not known:
            there = sorted({f"{r.cell.task} {r.cell.model} ({r.cell.profile})" for r in done}) or ["nothing"]
            raise UserError(
                f"{results} has no done record of the task, model and profile asked for; it has {', '.join(there)}."
            )
        raise unknown_name("method with a done record, folder or commit", text, sorted(set(called.values())))
    return Side(_done(committed, wanted), many=True)


def _done(records: Sequence[Record], wanted: Callable[[Record], bool]) -> list[Record]:
    return [record for record in records if record.result is not None and wanted(record)]


def _filter(task: str | None, model: str | None, profile: str | None) -> Callable[[Record], bool]:
    chosen = [(names(task), "task"), (names(model), "model"), (names(profile), "profile")]
    return lambda record: all(not wanted or getattr(record.cell, field) in wanted for wanted, field in chosen)


def _label(record: Record) -> str:
    return label(record.cell.method, record.cell.overrides)


def _networks(a: Sequence[Record], b: Sequence[Record]) -> Paired:
    """Pair network by network: of each side the record with the largest T, then of the first seed."""
    ours, theirs = (_grouped(side, lambda record: (*_inputs(record), record.ann.weights)) for side in (a, b))
    shared = [key for key in ours if key in theirs]
    pairs = [(min(ours[key], key=_rank), min(theirs[key], key=_rank)) for key in shared]
    return pairs, (len(ours) - len(shared), len(theirs) - len(shared))


def _cells(a: Sequence[Record], b: Sequence[Record]) -> Paired:
    """Pair cell by cell, whatever the weights (networks may have been trained anew): each T of both, else the largest of each.

    Of several records of one T the first counts, in the order of their paths.
    """
    ours, theirs = (_grouped(side, lambda r: (*_inputs(r), _label(r), r.cell.seed)) for side in (a, b))
    shared = [key for key in ours if key in theirs]
    pairs: list[tuple[Record, Record]] = []
    for key in shared:
        one, other = ({record.cell.steps: record for record in reversed(g[key])} for g in (ours, theirs))
        same = [(one[t], other[t]) for t in sorted(one) if t in other]
        pairs += same or [(one[max(one)], other[max(other)])]
    return pairs, (len(ours) - len(shared), len(theirs) - len(shared))


def _grouped(records: Sequence[Record], key: Callable[[Record], Key]) -> dict[Key, list[Record]]:
    groups: dict[Key, list[Record]] = {}
    for record in sorted(records, key=_where):
        groups.setdefault(key(record), []).append(record)
    return groups


def _rank(record: Record) -> tuple[int, int]:
    return -record.cell.steps, record.cell.seed


def _inputs(record: Record) -> Key:
    cell = record.cell
    return (cell.profile, cell.task, cell.model, record.data.fingerprint, record.inputs.tested, record.inputs.selection)


def _where(record: Record) -> str:
    return f"{record.cell.profile} {record.cell.task} {record.cell.model}"


def _both(a: Record, b: Record) -> tuple[Result, Result]:
    assert a.result is not None
    assert b.result is not None
    return a.result, b.result


def _differ(a: Record, b: Record) -> bool:
    """Return whether answers or events differ at a checkpoint that both have."""
    one, other = _both(a, b)
    return any(_counted(one, t) != _counted(other, t) for t in one.checkpoints if t in other.checkpoints)


def _counted(result: Result, step: int) -> tuple[str, dict[str, int]]:
    place = result.steps.index(step)
    bits = result.bits[result.checkpoints.index(step)]
    return bits, {kind: counts[place] for kind, counts in result.events.items()}


def summary(pairs: Sequence[tuple[Record, Record]]) -> list[str]:
    """Return one line for each pair at its largest common T, and who is better how often."""
    last = [gaps(a, b)[-1] for a, b in pairs]
    lines = [
        [_where(a), ", ".join(dict.fromkeys(labels([a, b]).values())), *_line(gap, p)]
        for (a, b), gap, p in zip(pairs, last, corrected(last), strict=True)
    ]
    wins = [line[-1] for line in lines]
    text = (
        f"At the largest common T: A better on {wins.count('A')}, B on {wins.count('B')}, no difference shown on"
        f" {wins.count(md.NONE)}."
    )
    return [md.plain(["", "method", *HEADS], lines), text]


def blocks(a: Record, b: Record) -> list[str]:
    """Return the text blocks of one pair of records on one network."""
    total = a.inputs.tested
    anns = [md.percent([record.ann.correct], total) for record in (a, b)]
    ann = (
        f"ANN {anns[0]} %"
        if a.ann.weights == b.ann.weights
        else f"ANNs of different weights: {anns[0]} and {anns[1]} %"
    )
    called = labels([a, b])
    names = [f"{side}: {called[id(record)]}, {_run(record)}" for side, record in (("A", a), ("B", b))]
    title = "\n".join([f"{_where(a)}, {total:,} test inputs, {ann}", *names])
    found = gaps(a, b)
    table = md.plain(list(HEADS), [_line(gap, p) for gap, p in zip(found, corrected(found), strict=True)])
    return [title, f"{table}\n{RULE}", _totals(a, b)]


RULE = "better: told apart at 5 % with p corrected for the rows (Holm); intervals are of one row each, not corrected."
HEADS = ("T", "A, %", "B, %", "A - B, points (95 %)", "only A", "only B", "McNemar p (Holm)", "better")


def _run(record: Record) -> str:
    commits = ", ".join(dict.fromkeys(run.version for run in record.runs))
    places = ", ".join(dict.fromkeys(f"{run.device} {run.backend}" for run in record.runs))
    return f"T = {record.cell.steps}, seed {record.cell.seed}, commit {commits}, {places}"


def gaps(a: Record, b: Record) -> list[Gap]:
    """Return the differences at the checkpoints that both have."""
    one, other = _both(a, b)
    return [_gap(one, other, t, a.inputs.tested) for t in one.checkpoints if t in other.checkpoints]


def corrected(found: Sequence[Gap]) -> list[float]:
    """Return the p-values of several differences, corrected for their number (Holm)."""
    return [float(p) for p in holm(np.array([gap.p for gap in found]))]


def _gap(a: Result, b: Result, step: int, total: int) -> Gap:
    ours, theirs = (bit_rows([r.bits[r.checkpoints.index(step)]], total) for r in (a, b))
    first, second = only(ours, theirs), only(theirs, ours)
    right = (a.correct[a.steps.index(step)], b.correct[b.steps.index(step)])
    return Gap(step, right, (int(first[0, 0]), int(second[0, 0])), total, float(mcnemar(first, second)[0, 0]))


def span(gap: Gap) -> str:
    """Return A - B in points with its 95 % interval."""
    points, low, high = difference(*gap.only, gap.total)
    digits = decimals(low, high)
    return f"{points:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def _line(gap: Gap, p: float) -> list[str]:
    one, two = gap.only
    better = md.NONE if p >= ALPHA else "A" if one > two else "B"
    right = [md.percent([count], gap.total, interval=False) for count in gap.right]
    return [str(gap.step), *right, span(gap), str(one), str(two), f"{p:.2g}" if p >= 1e-4 else "< 0.0001", better]


def _totals(a: Record, b: Record) -> str:
    """Return what both have cost up to their largest common checkpoint."""
    one, other = _both(a, b)
    last = max(t for t in one.checkpoints if t in other.checkpoints)
    rows = []
    for name, record, result in zip("AB", (a, b), (one, other), strict=True):
        counts, cost = energy_counts(record, last), energy.costs()
        whole, done = energy.ann(counts, cost), result.steps.index(last)
        target = needed(record.ann.correct, record.inputs.tested, ENERGY_EPSILON)
        found = settled(result.steps[: done + 1], result.correct[: done + 1], target)
        real = None if found is None else real_step(result, found)
        agree = md.percent([result.agree[done]], record.inputs.tested, interval=False)
        rows.append(
            [
                name, md.steps([real]), str(result.real_latency[result.checkpoints.index(last)]), agree,
                md.number(sum(counts.events.values())),
                md.number(energy.paper(counts, cost).total / whole), md.number(energy.strict(counts, cost).total / whole),
            ]
        )  # fmt: skip
    heads = [f"T = {last}", f"settled, {ENERGY_EPSILON:g} pt", "real T", "agrees with ANN, %", "synaptic events",
             "energy at T / ANN, paper", "energy at T / ANN, strict"]  # fmt: skip
    return md.plain(heads, rows)
