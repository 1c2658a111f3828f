"""The questions that rank methods on a network: the number that each asks for, and the test that tells two of them apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from benchmarks.markdown import percent
from benchmarks.pairs import Numbers, bit_rows, mcnemar, only, proportions
from benchmarks.tables import ENERGY_EPSILON, Row, Section, ranked_rows

FIXED_STEPS = 32
"""Real latency at which accuracies are ranked, or the network's T if that is less."""
EVENTS_PER_MAC = 1.0
"""Synaptic operations at which accuracies are ranked, for each multiply-accumulate of the ANN that spikes replace."""


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
    return at < row.steps or row.steps == longest(section)


def steps_place(row: Row, section: Section) -> int | None:
    """Return the last checkpoint whose answer is out within the fixed number of steps."""
    limit = min(FIXED_STEPS, max(section.checkpoints, default=0))
    if not row.results:
        return None
    result = row.results[0]
    return _last(result.checkpoints, [real <= limit for real in result.real_latency])


def operations_place(row: Row, _: Section) -> int | None:
    """Return the last step within the fixed number of synaptic operations."""
    if not row.results:
        return None
    result, record = row.results[0], row.first
    replaced = record.ann.macs - sum(p.macs for p in result.populations if p.constant)
    budget = EVENTS_PER_MAC * replaced * record.inputs.tested
    spent = (sum(counts) for counts in zip(*result.spikes.values(), strict=True))
    return _last(result.steps, [count <= budget for count in spent])


def _last(steps: Sequence[int], fits: Sequence[bool]) -> int | None:
    return max((step for step, fit in zip(steps, fits, strict=True) if fit), default=None)


Place = Callable[[Row, Section], int | None]
Enough = Callable[[Row, Section, int], bool]


def accuracy_standing(place: Place, enough: Enough) -> Callable[[Row, Section], Standing]:
    """Rank by accuracy at a step."""

    def standing(row: Row, section: Section) -> Standing:
        at = place(row, section)
        if at is None:
            return Standing(row, (float("inf"), 0.0), "–")
        right = [r.correct[r.steps.index(at)] for r in row.results]
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
            [_bits_at(row, at) for row, at in rows if at is not None], section.first.inputs.tested
        )  # those without a number come last
        counts = only(bits, bits)
        values = np.ones((len(rows), len(rows)))
        values[: len(bits), : len(bits)] = mcnemar(counts, counts.T)
        values[: len(bits), len(bits) :] = 0.0
        return values

    return tests


def share_tests(place: Place) -> Callable[[Sequence[Standing], Section], Numbers]:
    """Test each pair by how many answers are right at their steps, which need not be checkpoints."""

    def tests(standings: Sequence[Standing], section: Section) -> Numbers:
        found = [(s.row.results[0], at) for s in standings if (at := place(s.row, section)) is not None]
        right = np.array([result.correct[result.steps.index(at)] for result, at in found], dtype=np.float64)
        values = np.ones((len(standings), len(standings)))
        values[: len(right), : len(right)] = proportions(right, section.first.inputs.tested)
        values[: len(right), len(right) :] = 0.0  # those without a number come last
        return values

    return tests


def latency_tests(standings: Sequence[Standing], section: Section) -> Numbers:
    """Test each pair when the quicker one has settled, by the last answers that are out then; at T where neither settles."""
    values = np.ones((len(standings), len(standings)))
    with_results = [s for s in standings if s.row.results]  # they come first
    for index, standing in enumerate(with_results):
        if standing.key[0] < float("inf"):
            own = _settled_at(standing.row)
            moment = standing.row.results[0].real_latency[own]
            out = [_out_by(s.row, moment) for s in with_results]
            out[index] = own
        else:  # those that follow do not settle either, and rank by accuracy at T
            out = [len(s.row.results[0].bits) - 1 for s in with_results]
        answers = {
            n: s.row.results[0].bits[at]
            for n, (s, at) in enumerate(zip(with_results, out, strict=True))
            if at is not None
        }
        bits, answering = bit_rows([*answers.values()], section.first.inputs.tested), [*answers]
        mine = bits[answering.index(index)][None]
        values[index] = 0.0  # no answer is out yet, or there is none
        values[index, answering] = mcnemar(only(mine, bits)[0], only(bits, mine)[:, 0])
        same = [other for other, s in enumerate(standings) if s.key == standing.key]
        values[index, same] = 1.0
    return values


def _settled_at(row: Row) -> int:
    """Return the place of the first checkpoint at or after a method's settled latency."""
    step = max(t or row.steps for t in row.latency(ENERGY_EPSILON))
    return next(k for k, t in enumerate(row.results[0].checkpoints) if t >= step)


def _out_by(row: Row, moment: int) -> int | None:
    """Return the place of the last checkpoint whose answer is out at a real step."""
    return max((k for k, real in enumerate(row.results[0].real_latency) if real <= moment), default=None)


def _bits_at(row: Row, step: int) -> str:
    """Return the bits of the first checkpoint at or after a step, or of the last one."""
    result = row.results[0]
    return result.bits[next((k for k, t in enumerate(result.checkpoints) if t >= step), -1)]


SAME = "methods that a test on the same inputs (exact McNemar, where a view names no other; Holm-corrected over all pairs of a network, 5 %) does not tell apart from the leader of their group share its mean rank"  # fmt: skip
VIEWS = (
    View(
        "latency", "Settled latency",
        f"First step (real latency) from which on accuracy is at most {ENERGY_EPSILON:g} point below the ANN's; then, by"
        " accuracy at T, those that do not within T (> T). Pairs are tested at the quicker one's first checkpoint at or after that, the other by its last answer that is out by then; two that do not settle, at T.",
        settled_standing, latency_tests,
    ),
    View(
        "steps", f"Accuracy within {FIXED_STEPS} real steps",
        f"Accuracy, percent, at the last checkpoint whose answer is out within {FIXED_STEPS} real steps (or T, if less); tasks' tables have nominal T.",
        accuracy_standing(steps_place, enough_steps), accuracy_tests(steps_place),
    ),
    View(
        "operations", "Accuracy at fixed operations",
        f"Accuracy, percent, at the last step (of methods converted for each T: the last such T) up to which a method sends at most"
        f" {EVENTS_PER_MAC:g} synaptic spike for each multiply-accumulate of the ANN behind the layers that spikes do not reach. A graded"
        " spike counts as one, work inside neurons as nothing (see energy). Pairs are tested by their shares of right answers (z-test with Yates's correction).",
        accuracy_standing(operations_place, enough_operations), share_tests(operations_place),
    ),
)  # fmt: skip
