"""Critical-difference diagram of mean ranks over tasks (Demšar 2006, JMLR 7): Nemenyi's test at 5 %."""

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from matplotlib.axes import Axes
from scipy.stats import studentized_range

from benchmarks.board import Means
from benchmarks.plots import INK, canvas, save, short, style

LEVEL = 0.05


@lru_cache
def critical(methods: int, tasks: int) -> float:
    """Return the difference of mean ranks beyond which two of `methods` differ over `tasks`."""
    q = float(studentized_range.ppf(1 - LEVEL, methods, math.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * tasks))


def bars(values: Sequence[float], width: float) -> list[tuple[int, int]]:
    """Return the longest runs (first, last) of sorted mean ranks that lie within `width`; runs of one are left out."""
    found: list[tuple[int, int]] = []
    for first, value in enumerate(values):
        last = max(k for k in range(first, len(values)) if values[k] - value <= width)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def critical_difference(title: str, ranks: Means, file: Path) -> None:
    """Draw methods from best to worst with bars over those that do not differ."""
    labels, values = list(ranks.means), list(ranks.means.values())
    width = critical(len(labels), ranks.tasks)
    runs = bars(values, width)
    with style():
        figure, (axes,) = canvas(1, width=6.4, height=1.1 + 0.17 * len(labels), legend=0.2)
        figure.subplots_adjust(left=0.3)
        axes.plot(values, range(len(labels)), "o", color="#0072b2", markersize=4)
        axes.set_yticks(range(len(labels)), [short(label) for label in labels], fontsize=7)
        axes.invert_yaxis()
        _runs(axes, values, runs)
        axes.set_xlabel(f"mean rank over {ranks.tasks} tasks; bars: no significant difference (CD = {width:.2f})")
        axes.set_title(title, fontsize=9)
        save(figure, file)


def _runs(axes: Axes, values: Sequence[float], runs: Sequence[tuple[int, int]]) -> None:
    right = max(values) + 0.04 * (max(values) - min(values) + 1)
    for number, (first, last) in enumerate(runs):
        x = right + 0.03 * (number + 1) * (max(values) - min(values) + 1)
        axes.plot([x, x], [first, last], color=INK, linewidth=2)
