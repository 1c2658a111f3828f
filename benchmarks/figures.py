"""The plots of one network, from its section of records: accuracy, SIN, ablation, spike confidence, conversion error."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.markdown import number
from benchmarks.paper import paper
from benchmarks.plots import GREY, INK, PALETTE, canvas, colour, doubling, legend, save, short, slug, style
from benchmarks.records import NeuronTrace
from benchmarks.statistics import wilson
from benchmarks.tables import Row, Section, nearest, site_means, sites, thinned

HIGHLIGHTED = 8
EVENT_DECADES = 4
"""Decades of synaptic events that are shown: fewer events never gave an answer better than a guess."""


def draw_all(part: Section, folder: Path, stem: str) -> dict[str, str]:
    """Write the plots of a network that its records can fill; return their file names by kind."""
    written = {}
    with style():
        for kind, draw in FIGURES.items():
            figure = draw(part)
            if figure is not None:
                written[kind] = f"{slug(stem)}-{kind}.svg"
                save(figure, folder / written[kind])
    return written


def highlighted(part: Section) -> list[Row]:
    """Return the paper's own methods and the first rows of the table: at most eight."""
    good = [row for row in part.rows if row.results]
    own = [row for row in good if row.first.cell.method in paper().subject and not row.first.cell.overrides]
    rest = [row for row in good if row not in own]
    chosen = own + rest[: HIGHLIGHTED - len(own)]
    return [row for row in good if row in chosen]


def named(part: Section, names: Sequence[str]) -> list[Row]:
    """Return the measured rows of some methods, in the order of their names, then of the table."""
    return [row for name in names for row in part.rows if row.results and row.first.cell.method == name]


def accuracy_figure(part: Section) -> Figure | None:
    """Accuracy against T and against synaptic operations; band: 95 % interval; other methods grey."""
    front = highlighted(part)
    if not front:
        return None
    figure, (left, right) = canvas(2)
    rest = [curve(row) for row in part.rows if row.results and row not in front]
    for axes, x in ((left, 0), (right, 2)):
        lines = [list(zip(points[x], points[1], strict=True)) for points in rest]
        axes.add_collection(LineCollection(lines, colors=GREY, linewidths=0.8, zorder=1))
    for index, row in enumerate(front):
        _curves(left, right, row, label=short(part.name(row)), **colour(index))
    if rest:
        left.plot([], [], color=GREY, linewidth=0.8, label="other methods")
    for axes in (left, right):
        _ann(axes, part)
        axes.set_ylabel("right answers, %")
    doubling(left, part.checkpoints)
    left.set_xlabel("time step")
    _events_axis(right, part)
    legend(figure, left)
    return figure


def _curves(left: Axes, right: Axes, row: Row, **look: Any) -> None:
    (steps, shares, events), total = curve(row), row.first.inputs.tested
    left.plot(steps, shares, **look)
    right.plot(events, shares, **look)
    ends = [wilson(round(share * total / 100), total) for share in shares]
    low, high = ([100 * end[k] for end in ends] for k in (0, 1))
    left.fill_between(steps, low, high, color=look["color"], alpha=0.12, linewidth=0)


def _events_axis(axes: Axes, part: Section) -> None:
    """Show the decades of events that matter, and the ANN's multiply-accumulates where they are near."""
    axes.set_xlabel("synaptic events of one inference")
    ends = [end for row in part.rows if row.results if (end := curve(row)[2][-1]) > 0]
    if not ends:  # nothing ever spiked
        return
    most = max(ends)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(lambda value, _: number(value, 1))
    macs = part.first.ann.macs
    near = macs < 10 * most
    axes.set_xlim(most / 10**EVENT_DECADES, max(most, macs if near else 0) * 1.3)
    text = "MACs of the ANN" if near else f"MACs of the ANN: {number(macs)}, far right"
    if near:
        axes.axvline(macs, color=INK, linewidth=0.8, linestyle=":")
    axes.text(
        macs if near else most * 1.3, 0.02, f" {text} ", transform=axes.get_xaxis_transform(), rotation=90, ha="right",
        va="bottom", fontsize=7, color=INK, bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
    )  # fmt: skip


def curve(row: Row) -> tuple[list[int], list[float], list[float]]:
    """Return steps, accuracies (percent) and synaptic events of one inference: means over seeds, thinned for drawing.

    No event yet is not a number: a logarithmic axis has no place for it.
    """
    results, total = row.results, row.first.inputs.tested
    at = thinned(results[0].steps)
    scale = total * len(results)
    shares = [100 * sum(r.correct[k] for r in results) / scale for k in at]
    events = [sum(counts[k] for r in results for counts in r.events.values()) / scale or float("nan") for k in at]
    return [results[0].steps[k] for k in at], shares, events


def _ann(axes: Axes, part: Section) -> None:
    share = 100 * part.first.ann.correct / part.first.inputs.tested
    axes.axhline(share, color="black", linewidth=0.9, linestyle="--", label="ANN")


def sin_figure(part: Section) -> Figure | None:
    """Fig. 2 of the paper: SIN ratio of every site at several steps."""
    rows = [row for row in named(part, paper().sin) if not row.first.cell.overrides]
    if not rows:
        return None
    figure, panels = canvas(len(rows), width=3.8, height=3.0, legend=1.1)
    for axes, row in zip(panels, rows, strict=True):
        checkpoints = row.results[0].checkpoints
        chosen = dict.fromkeys(nearest(checkpoints, t) for t in (*paper().sin_steps, max(checkpoints)))
        for order, index in enumerate(chosen):
            values = [100 * ratio for ratio in site_means(row, index, "sin_ratio")]
            look = colour(order)
            axes.plot(
                range(1, len(values) + 1), values, marker="o", markersize=3, label=f"t = {checkpoints[index]}", **look
            )
        axes.set_title(short(part.name(row), 40), fontsize=9)
        axes.set_xlabel("site")
        axes.set_ylabel("SIN ratio, %")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    highest = max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_ylim(0, max(highest, 1))  # one scale, so that panels can be compared
    legend(figure, panels[0], 1.1)
    return figure


def ablation_figure(part: Section) -> Figure | None:
    """Fig. 4 of the paper: the whole method, its terms alone, and fractions of the maximum."""
    rows = named(part, paper().ablation)
    if len(rows) < 2:
        return None
    figure, (axes,) = canvas(1, width=5.2)
    for index, row in enumerate(rows):
        steps, shares, _ = curve(row)
        axes.plot(steps, shares, label=part.name(row), **colour(index))
    _ann(axes, part)
    doubling(axes, part.checkpoints)
    axes.set_xlabel("time step")
    axes.set_ylabel("right answers, %")
    legend(figure, axes)
    return figure


def confidence_pairs(part: Section) -> list[tuple[Row, Row]]:
    """Return the rows of a method without and with spike confidence, with equal parameters and the nearest T."""
    found = []
    for without, with_it in paper().confidence:
        for row in named(part, [with_it]):
            overrides = row.first.cell.overrides
            plain = [other for other in named(part, [without]) if other.first.cell.overrides == overrides]
            if plain:
                found.append((min(plain, key=lambda other: abs(other.steps - row.steps)), row))
    return found


def confidence_figure(part: Section) -> Figure | None:
    """Fig. 5 and Table 6 of the paper: accuracy and ANS of the last site, without and with spike confidence."""
    pairs = confidence_pairs(part)
    if not pairs:
        return None
    figure, (left, right) = canvas(2, width=3.8, height=3.0)
    for index, row in enumerate(row for pair in pairs for row in pair):
        steps, shares, _ = curve(row)
        left.plot(steps, shares, label=short(part.name(row)), **colour(index))
        checkpoints = row.results[0].checkpoints
        spikes = [site_means(row, k, "ans")[-1] for k in range(len(checkpoints))]
        right.plot(checkpoints, spikes, marker="o", markersize=3, **colour(index))
    _ann(left, part)
    left.set_ylabel("right answers, %")
    right.set_ylabel("ANS of the last site, spikes")
    right.set_ylim(0, max(1.0, right.get_ylim()[1]))
    for axes in (left, right):
        doubling(axes, part.checkpoints)
        axes.set_xlabel("time step")
    legend(figure, left)
    return figure


def error_figure(part: Section) -> Figure | None:
    """Conversion error of every site at T: squared error relative to the squared activation."""
    rows = [row for row in part.rows if row.results and sites(row.results[0])]
    if not rows:
        return None
    values = np.array([site_means(row, len(row.results[0].checkpoints) - 1, "relative_error") for row in rows])
    tall = 0.9 + 0.19 * len(rows)
    figure = Figure(figsize=(3.6 + 0.24 * values.shape[1], tall))
    axes = figure.add_axes((2.0 / figure.get_figwidth(), 0.5 / tall, 0.24 * values.shape[1] / figure.get_figwidth(),
                            1 - 0.85 / tall))  # fmt: skip
    shown = np.clip(values, 1e-5, 1.0)
    axes.pcolormesh(shown, norm=LogNorm(1e-5, 1.0), cmap="viridis_r", edgecolor="white", linewidth=0.3)
    axes.plot(
        values.argmax(1) + 0.5,
        np.arange(len(rows)) + 0.5,
        "o",
        color="white",
        markersize=3,
        markeredgecolor=INK,
        markeredgewidth=0.6,
    )
    axes.set_yticks(np.arange(len(rows)) + 0.5, [short(part.name(row)) for row in rows], fontsize=7)
    count = values.shape[1]
    ticks = range(0, count, max(1, round(count / 12)))
    axes.set_xticks([k + 0.5 for k in ticks], [str(k + 1) for k in ticks])
    axes.set_xlabel("site")
    axes.set_title("relative squared error at T; dot: worst site", fontsize=9)
    axes.invert_yaxis()
    axes.grid(False)
    beside = figure.add_axes(
        (1 - 0.85 / figure.get_figwidth(), 0.5 / tall, 0.14 / figure.get_figwidth(), 1 - 0.85 / tall)
    )
    _scale(beside)
    return figure


def _scale(axes: Axes) -> None:
    """Draw a colour scale of 20 cells: a colour bar would be embedded as a picture."""
    edges = np.logspace(-5, 0, 21)
    middle = np.sqrt(edges[1:] * edges[:-1])[:, None]
    axes.pcolormesh([0, 1], edges, middle, norm=LogNorm(1e-5, 1.0), cmap=mpl.colormaps["viridis_r"])
    axes.set_yscale("log")
    axes.yaxis.tick_right()
    axes.set_yticks([1e-5, 1e-3, 1e-1], ["0.00001", "0.001", "0.1"])
    axes.set_xticks([])
    axes.grid(False)
    axes.minorticks_off()
    axes.tick_params(labelsize=7)


def trace_figure(part: Section) -> Figure | None:
    """Neurons of the last site over time, one row of panels for each method: current, potential, threshold, spikes."""
    rows = [row for row in named(part, paper().trace) if not row.first.cell.overrides]
    found = [(row, row.results[0].traces) for row in rows if row.results[0].traces]
    if not found:
        return None
    columns = max(len(traces) for _, traces in found)
    figure, panels = canvas(columns, width=3.5, height=2.7, legend=1.2, rows=len(found))
    for place, (row, traces) in enumerate(found):
        line = panels[place * columns : (place + 1) * columns]
        line[0].set_ylabel(short(part.name(row), 30), fontweight="bold")
        for axes, trace in zip(line, traces, strict=False):
            _trace(axes, trace)
        for axes in line[len(traces) :]:
            axes.set_axis_off()
    for axes in panels[-columns:]:
        axes.set_xlabel("time step")
    legend(figure, panels[0], 1.2)
    return figure


def _trace(axes: Axes, trace: NeuronTrace) -> None:
    steps = range(1, len(trace.current) + 1)
    axes.plot(steps, trace.current, label="current", color=GREY, linewidth=1)
    axes.step(steps, trace.threshold, where="mid", label="threshold", color=PALETTE[1], linewidth=1)
    axes.plot(steps, trace.potential, label="potential", color=PALETTE[0])
    axes.margins(y=0.14)  # spikes stand below the curves, whatever those are
    fired = [t for t, sent in zip(steps, trace.output, strict=True) if sent]
    axes.plot(
        fired,
        [0.045] * len(fired),
        "|",
        color="black",
        markersize=7,
        label="spike",
        transform=axes.get_xaxis_transform(),
    )
    axes.set_title(f"{short(trace.site, 20)}, neuron {trace.neuron}", fontsize=9)


FIGURES: dict[str, Callable[[Section], Figure | None]] = {
    "accuracy": accuracy_figure,
    "sin": sin_figure,
    "ablation": ablation_figure,
    "confidence": confidence_figure,
    "error": error_figure,
    "trace": trace_figure,
}
