"""The ranks of the leaderboard: tie groups on each network, and mean ranks over tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from benchmarks.pairs import ALPHA, holm_upper
from benchmarks.records import Record
from benchmarks.tables import Row, Section, headings, ranked_rows
from benchmarks.views import Standing, View


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


def left_out(parts: Sequence[Section]) -> list[str]:
    """Say which sections do not rank because others of their network have more inputs or methods."""
    ranked = {id(net) for net in networks(parts)}
    return [
        f"{part.task} {name}: {len(part.rows)} method{'s' * (len(part.rows) > 1)}"
        for part, name in zip(parts, headings(parts), strict=True)
        if id(part) not in ranked
    ]


def complete(view: View, parts: Sequence[Section]) -> list[str]:
    """Return the methods that rank on every network."""
    ranking = [
        {label for label, row in ranked_rows(part).items() if not view.standing(row, part).short} for part in parts
    ]
    return sorted(set.intersection(*ranking)) if ranking else []


def shared(view: View, parts: Sequence[Section]) -> list[list[Section]]:
    """Return the sets of networks to take mean ranks on, each of two or more networks that share two or more methods.

    Ranks among different methods cannot be averaged: the fifth of nine is not the fifth of forty. So there is one set of
    all networks, and, where methods are missing on some, before it a smaller one, which then orders the board: networks
    are dropped one by one, and that set is taken where (networks x methods that all of them share) is largest.
    """
    everything = kept = best = list(parts)
    while len(kept) > 2:
        fewer = [kept[:k] + kept[k + 1 :] for k in range(len(kept))]
        kept = max(fewer, key=lambda nets: len(complete(view, nets)))
        if len(kept) * len(complete(view, kept)) > len(best) * len(complete(view, best)):
            best = kept
    sets = [everything] if len(best) == len(everything) else [best, everything]
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
