"""The numbers of the leaderboard: standings on each network, tie groups, and mean ranks over tasks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from benchmarks.markdown import percent
from benchmarks.pairs import ALPHA, Numbers, bit_rows, holm_upper, mcnemar, only
from benchmarks.records import Record
from benchmarks.tables import ENERGY_EPSILON, Row, Section

FIXED_STEPS = 32
"""Real latency at which accuracies are ranked, or the network's T if that is less."""
EVENTS_PER_MAC = 1.0
"""Synaptic operations at which accuracies are ranked, for each multiply-accumulate of the ANN."""


@dataclass(frozen=True)
class Standing:
    """One method on one network in one view."""

    row: Row
    key: tuple[float, float]
    """Smaller is better; (inf, ...) where there is no number."""
    text: str
    """The number as it is printed."""
    short: bool = False
    """Whether the method was run for so few steps that its place cannot be told; it does not rank."""


@dataclass(frozen=True)
class View:
    """A question that ranks methods."""

    name: str
    title: str
    note: str
    standing: Callable[[Row, Section], Standing]
    tests: Callable[[Sequence[Standing], Section], Numbers]
    """p-values [k, k] that a method is not the worse of two; those above the diagonal count."""


def settled_standing(row: Row, section: Section) -> Standing:
    """Rank by the real latency from which accuracy is never a point below the ANN's; after those, by accuracy at T."""
    found = [step for step in row.real_latency(ENERGY_EPSILON) if step is not None]
    if not found or len(found) < len(row.results):
        right = mean(result.correct[-1] for result in row.results) if row.results else 0.0
        text = f"> {row.steps}" if row.results else "–"
        return Standing(row, (float("inf"), -right), text, bool(row.results) and row.steps < longest(section))
    return Standing(row, (mean(found), 0.0), f"{mean(found):.0f}")


def longest(section: Section) -> int:
    """Return the largest T that a method which may rank was run for."""
    return max((row.steps for row in ranked_rows(section).values() if row.results), default=0)


def enough_steps(row: Row, section: Section, _: int) -> bool:
    """Return whether a method was run for the fixed number of steps."""
    return row.steps >= min(FIXED_STEPS, longest(section))


def enough_operations(row: Row, section: Section, at: int) -> bool:
    """Return whether a method was run until it had spent the fixed number of operations, or as long as any other."""
    return at < len(row.results[0].checkpoints) - 1 or row.steps == longest(section)


def steps_place(row: Row, section: Section) -> int | None:
    """Return the position of the last checkpoint whose answer is out within the fixed number of steps."""
    limit = min(FIXED_STEPS, max(section.checkpoints, default=0))
    return _last([real <= limit for real in row.results[0].real_latency]) if row.results else None


def operations_place(row: Row, _: Section) -> int | None:
    """Return the position of the last checkpoint within the fixed number of synaptic operations."""
    if not row.results:
        return None
    result, record = row.results[0], row.first
    budget = EVENTS_PER_MAC * record.ann.macs * record.inputs.tested
    spent = [sum(s[result.steps.index(t)] for s in result.spikes.values()) for t in result.checkpoints]
    return _last([count <= budget for count in spent])


def _last(fits: Sequence[bool]) -> int | None:
    return max((index for index, fit in enumerate(fits) if fit), default=None)


Place = Callable[[Row, Section], int | None]
Enough = Callable[[Row, Section, int], bool]


def accuracy_standing(place: Place, enough: Enough) -> Callable[[Row, Section], Standing]:
    """Rank by accuracy at a checkpoint."""

    def standing(row: Row, section: Section) -> Standing:
        at = place(row, section)
        if at is None:
            return Standing(row, (float("inf"), 0.0), "–")
        right = [r.correct[r.steps.index(r.checkpoints[at])] for r in row.results]
        return Standing(
            row,
            (-mean(right), 0.0),
            percent(right, row.first.inputs.tested, interval=False),
            not enough(row, section, at),
        )

    return standing


def accuracy_tests(place: Place) -> Callable[[Sequence[Standing], Section], Numbers]:
    """Test each pair on the inputs that they have right at their checkpoints."""

    def tests(standings: Sequence[Standing], section: Section) -> Numbers:
        rows = [(s.row, place(s.row, section)) for s in standings]
        bits = bit_rows(
            [row.results[0].bits[at] for row, at in rows if at is not None], section.first.inputs.tested
        )  # those without a number come last
        counts = only(bits, bits)
        values = np.ones((len(rows), len(rows)))
        values[: len(bits), : len(bits)] = mcnemar(counts, counts.T)
        values[: len(bits), len(bits) :] = 0.0
        return values

    return tests


def latency_tests(standings: Sequence[Standing], section: Section) -> Numbers:
    """Test each pair at the checkpoint at or after the quicker one's settled latency, or at T where neither has one."""
    values = np.ones((len(standings), len(standings)))
    for index, standing in enumerate(standings):
        if not standing.row.results:
            break
        step = max(t or standing.row.steps for t in standing.row.latency(ENERGY_EPSILON))
        bits = bit_rows([_bits_at(s.row, step) for s in standings if s.row.results], section.first.inputs.tested)
        own = bits[index : index + 1]
        values[index, : len(bits)] = mcnemar(only(own, bits)[0], only(bits, own)[:, 0])
        values[index, len(bits) :] = 0.0
        same = [other for other, s in enumerate(standings) if s.key == standing.key]
        values[index, same] = 1.0
    return values


def _bits_at(row: Row, step: int) -> str:
    """Return the bits of the first checkpoint at or after a step, or of the last one."""
    result = row.results[0]
    return result.bits[next((k for k, t in enumerate(result.checkpoints) if t >= step), -1)]


SAME = "methods that a McNemar test on the same inputs (exact, Holm-corrected over all pairs of a network, 5 %) does not tell apart from the leader of their group share its mean rank"  # fmt: skip
VIEWS = (
    View(
        "latency", "Settled latency",
        f"First step (real latency) from which on accuracy is at most {ENERGY_EPSILON:g} point below the ANN's; then, by"
        " accuracy at T, those that do not within T (> T). Pairs are tested at the checkpoint at or after the quicker one's latency, or at T.",
        settled_standing, latency_tests,
    ),
    View(
        "steps", f"Accuracy within {FIXED_STEPS} real steps",
        f"Accuracy, percent, at the last checkpoint whose answer is out within {FIXED_STEPS} real steps (or T, if less); tasks' tables have nominal T.",
        accuracy_standing(steps_place, enough_steps), accuracy_tests(steps_place),
    ),
    View(
        "operations", "Accuracy at fixed operations",
        f"Accuracy, percent, at the last checkpoint up to which a method sends at most {EVENTS_PER_MAC:g} synaptic spike"
        " for each multiply-accumulate of the ANN.",
        accuracy_standing(operations_place, enough_operations), accuracy_tests(operations_place),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Means:
    """Mean ranks of the methods that have a record on every network of a set, among themselves."""

    networks: tuple[Section, ...]
    means: dict[str, float]
    """Mean over tasks of the mean over a task's networks, best first; smaller is better."""

    @property
    def tasks(self) -> int:
        return len({net.task for net in self.networks})


@dataclass(frozen=True)
class Board:
    """Ranks in one view: smaller is better."""

    view: View
    networks: tuple[Section, ...]
    ranks: dict[str, dict[int, tuple[float | None, str]]]
    """By method, by position of the network: (rank among all that rank there, printed number); no rank after too short a run."""
    sets: tuple[Means, ...]
    """Mean ranks on the sets of networks that share methods; none for a single network."""

    @property
    def order(self) -> list[str]:
        """All methods: those with a mean rank first, then those on more networks, then those ahead of more others."""
        return sorted(self.ranks, key=self._place)

    def _place(self, label: str) -> tuple[tuple[float, ...], int, float, str]:
        found = self.ranks[label]
        shares = [rank / self.size(index) for index, (rank, _) in found.items() if rank is not None]
        ahead = mean(shares) if shares else float("inf")
        return tuple(m.means.get(label, float("inf")) for m in self.sets), -len(shares), ahead, label

    def size(self, index: int) -> int:
        """Return how many methods rank on a network."""
        return sum(ranks.get(index, (None, ""))[0] is not None for ranks in self.ranks.values())


def networks(parts: Sequence[Section]) -> list[Section]:
    """Return one section per task and network: the one with most test inputs, then most methods."""
    best: dict[tuple[str, str], Section] = {}
    for part in parts:
        key, size = (part.task, part.model), (part.first.inputs.tested, len(part.rows))
        if key not in best or size > (best[key].first.inputs.tested, len(best[key].rows)):
            best[key] = part
    return [best[key] for key in sorted(best)]


def ranked_rows(section: Section) -> dict[str, Row]:
    """Return the rows that may rank, by label; of one method at several T the largest T."""
    rows: dict[str, Row] = {}
    for row in sorted(section.rows, key=lambda row: row.steps):
        if row.first.method.category != "reference":
            rows[row.label] = row
    return rows


def complete(view: View, parts: Sequence[Section]) -> list[str]:
    """Return the methods that rank on every network."""
    ranking = [
        {label for label, row in ranked_rows(part).items() if not view.standing(row, part).short} for part in parts
    ]
    return sorted(set.intersection(*ranking)) if ranking else []


def shared(view: View, parts: Sequence[Section]) -> list[list[Section]]:
    """Return the sets of networks to take mean ranks on, each of two or more networks that share two or more methods.

    Ranks among different methods cannot be averaged: the fifth of nine is not the fifth of forty. So there is one set of
    all networks, and, where methods are missing on some, a smaller one: networks are dropped one by one, and that set
    is taken where (networks x methods that all of them share) is largest.
    """
    everything = kept = best = list(parts)
    while len(kept) > 2:
        fewer = [kept[:k] + kept[k + 1 :] for k in range(len(kept))]
        kept = max(fewer, key=lambda nets: len(complete(view, nets)))
        if len(kept) * len(complete(view, kept)) > len(best) * len(complete(view, best)):
            best = kept
    sets = [everything] if len(best) == len(everything) else [everything, best]
    return [nets for nets in sets if len(nets) > 1 and len(complete(view, nets)) > 1]


def board(view: View, parts: Sequence[Section]) -> Board:
    """Return the ranks on every network, and the mean ranks of the methods that share networks."""
    ranks: dict[str, dict[int, tuple[float | None, str]]] = {}
    for index, part in enumerate(parts):
        rows = ranked_rows(part)
        found = {standing.row.label: rank for standing, rank in rank_network(view, list(rows.values()), part)}
        for label, row in rows.items():
            ranks.setdefault(label, {})[index] = (found.get(label), view.standing(row, part).text)
    return Board(view, tuple(parts), ranks, tuple(mean_ranks(view, nets) for nets in shared(view, parts)))


def mean_ranks(view: View, nets: Sequence[Section]) -> Means:
    """Return the mean ranks of the methods that have a record on every one of some networks, ranked among themselves."""
    labels = complete(view, nets)
    found: dict[str, dict[str, list[float]]] = {label: {} for label in labels}
    for net in nets:
        rows = ranked_rows(net)
        for standing, rank in rank_network(view, [rows[label] for label in labels], net):
            found[standing.row.label].setdefault(net.task, []).append(rank)
    means = {label: mean(mean(ranks) for ranks in tasks.values()) for label, tasks in found.items()}
    return Means(tuple(nets), dict(sorted(means.items(), key=lambda item: (item[1], item[0]))))


def rank_network(view: View, rows: Sequence[Row], part: Section) -> list[tuple[Standing, float]]:
    """Return the standings that rank, best first, with the mean rank of their tie group."""
    standings = sorted(
        (s for s in (view.standing(row, part) for row in rows) if not s.short),
        key=lambda s: (not s.row.results, s.key, s.row.label),
    )
    values = holm_upper(view.tests(standings, part))
    ranks: list[float] = []
    while len(ranks) < len(standings):
        leader = len(ranks)
        size = next((n for n, p in enumerate(values[leader, leader + 1 :], 1) if p < ALPHA), len(standings) - leader)
        ranks += [leader + (size + 1) / 2] * size
    return list(zip(standings, ranks, strict=True))


def by_kind(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """Split records into those of sample and of real data; the two never share a table."""
    kinds: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        kinds.setdefault((record.cell.profile, record.data.kind), []).append(record)
    return dict(sorted(kinds.items()))
