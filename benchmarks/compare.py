"""Two methods, records or result folders side by side on the same test inputs: differences, intervals, who wins where."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import markdown as md
from benchmarks.cells import label, names
from benchmarks.pairs import ALPHA, bit_rows, difference, mcnemar, only
from benchmarks.records import Record, Result, read_record, read_records
from benchmarks.statistics import decimals, needed, settled
from benchmarks.tables import ENERGY_EPSILON
from msat.errors import UserError, unknown_name

Key = tuple[object, ...]


@dataclass(frozen=True)
class Side:
    """One of the two things that are compared."""

    name: str
    records: Sequence[Record]
    kind: str
    """method, record or folder: folders are paired cell by cell, the others network by network."""


def compare(
    first: str,
    second: str,
    results: Path,
    task: str | None = None,
    model: str | None = None,
    profile: str | None = None,
) -> str:
    """Return the comparison as text.

    Raises:
        UserError: a side is unknown, or the two share no network with the same test inputs.
    """
    wanted = _filter(task, model, profile)
    a, b = (side(text, results, wanted) for text in (first, second))
    key = _cell_key if a.kind == b.kind == "folder" else _network_key
    theirs = _first_seeds(b.records, key)
    pairs = [(r, theirs[k]) for k, r in _first_seeds(a.records, key).items() if k in theirs]
    if not pairs:
        raise UserError(
            f"'{first}' and '{second}' share no network with the same weights, test inputs and T; run both with the same"
            " LIMIT and STEPS."
        )
    return "\n\n".join(block for one, other in pairs for block in blocks(one, other))


def side(text: str, results: Path, wanted: Callable[[Record], bool]) -> Side:
    """Return what a text names: a record's file, a folder of records, or a method's label.

    Raises:
        UserError: it names nothing.
    """
    path = Path(text)
    if path.is_file():
        record = read_record(path)
        if record is None or record.result is None:
            raise UserError(f"{path} is not a done record of this version; run its cell with `msat-bench run`.")
        return Side(text, [record], "record")
    known = [r for r in read_records(path if path.is_dir() else results)[0] if r.result is not None and wanted(r)]
    if path.is_dir():
        return Side(text, known, "folder")
    labels = sorted({_label(record) for record in known})
    if text not in labels:
        raise unknown_name("method with a done record", text, labels)
    return Side(text, [record for record in known if _label(record) == text], "method")


def _filter(task: str | None, model: str | None, profile: str | None) -> Callable[[Record], bool]:
    chosen = [(names(task), "task"), (names(model), "model"), (names(profile), "profile")]
    return lambda record: all(not wanted or getattr(record.cell, field) in wanted for wanted, field in chosen)


def _label(record: Record) -> str:
    return label(record.cell.method, record.cell.overrides)


def _network_key(record: Record) -> Key:
    cell = record.cell
    return (cell.profile, cell.task, cell.model, record.data.fingerprint, record.ann.weights, record.inputs.tested,
            record.inputs.selection, cell.steps)  # fmt: skip


def _cell_key(record: Record) -> Key:
    cell = record.cell
    return (cell.profile, cell.task, cell.model, record.data.fingerprint, record.inputs.tested, _label(record), cell.steps,
            cell.seed)  # fmt: skip


def _first_seeds(records: Sequence[Record], key: Callable[[Record], Key]) -> dict[Key, Record]:
    found: dict[Key, Record] = {}
    for record in sorted(records, key=lambda record: (_where(record), record.cell.seed)):
        found.setdefault(key(record), record)
    return found


def _where(record: Record) -> str:
    return f"{record.cell.profile} {record.cell.task} {record.cell.model}"


def blocks(a: Record, b: Record) -> list[str]:
    """Return the text blocks of one pair of records on one network."""
    assert a.result is not None
    assert b.result is not None
    total = a.inputs.tested
    heads = [_name(record) for record in (a, b)]
    title = (
        f"{_where(a)}, {total:,} test inputs, ANN {md.percent([a.ann.correct], total)} %\nA: {heads[0]}\nB: {heads[1]}"
    )
    lines = [_line(a.result, b.result, t, total) for t in a.result.checkpoints if t in b.result.checkpoints]
    table = md.plain(["T", "A, %", "B, %", "A - B, points (95 %)", "only A", "only B", "McNemar p", "better"], lines)
    return [title, table, _totals(a, b)]


def _name(record: Record) -> str:
    commit = (record.run.commit or "unknown")[:12] + (" with changes" if record.run.dirty else "")
    return f"{_label(record)}, seed {record.cell.seed}, commit {commit}"


def _line(a: Result, b: Result, step: int, total: int) -> list[str]:
    ours, theirs = (bit_rows([r.bits[r.checkpoints.index(step)]], total) for r in (a, b))
    first, second = only(ours, theirs), only(theirs, ours)
    p = float(mcnemar(first, second)[0, 0])
    one, two = int(first[0, 0]), int(second[0, 0])
    gap, low, high = difference(one, two, total)
    digits = decimals(low, high)
    better = "–" if p >= ALPHA else "A" if one > two else "B"
    right = [md.percent([r.correct[r.steps.index(step)]], total, interval=False) for r in (a, b)]
    span = f"{gap:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"
    return [str(step), *right, span, str(one), str(two), f"{p:.2g}" if p >= 1e-4 else "< 0.0001", better]


def _totals(a: Record, b: Record) -> str:
    rows = []
    for name, record in (("A", a), ("B", b)):
        result = record.result
        assert result is not None
        found = settled(result.steps, result.correct, needed(record.ann.correct, record.inputs.tested, ENERGY_EPSILON))
        events = sum(counts[-1] for counts in result.events.values()) / record.inputs.tested
        agree = md.percent([result.agree[-1]], record.inputs.tested, interval=False)
        rows.append([name, md.steps([found]), str(result.real_latency[-1]), agree, md.number(events)])
    heads = ["", f"settled, {ENERGY_EPSILON:g} pt", "real T", "agrees with ANN, %", "synaptic events"]
    return md.plain(heads, rows)
