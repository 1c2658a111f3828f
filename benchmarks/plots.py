"""How plots look and are written: SVG with text as text, and the same bytes from the same numbers."""

import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b4fa3", "#8c6d31")
"""Colours that readers with a colour deficiency can tell apart (Okabe & Ito 2008, with two added)."""
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1, 2)))
GREY = "#bbbbbb"
INK = "#444444"
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "msat-bench",
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "grid.color": "#eeeeee",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw inside in the bench's style; no user setting has an effect."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def canvas(
    columns: int = 1, width: float = 4.6, height: float = 3.4, legend: float = 1.9, rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels side by side, row by row, and room at the right for a legend (inches; size of a panel)."""
    whole, tall = columns * width + legend, rows * height
    figure = Figure(figsize=(whole, tall))
    FigureCanvasSVG(figure)
    axes = [figure.add_subplot(rows, columns, n + 1) for n in range(rows * columns)]
    figure.subplots_adjust(
        left=0.6 / whole, right=1 - (legend + 0.1) / whole, bottom=0.5 / tall, top=1 - 0.35 / tall, wspace=0.24,
        hspace=0.3,
    )  # fmt: skip
    return figure, axes


LEGEND_CHARACTERS = 20


def legend(figure: Figure, axes: Axes, room: float = 1.9) -> None:
    """Put the legend of some axes into the room at the right; a long name takes several lines."""
    handles, names = axes.get_legend_handles_labels()
    labels = [fill(name, LEGEND_CHARACTERS) for name in names]
    if handles:
        edge = 1 - room / figure.get_figwidth()
        figure.legend(handles, labels, loc="center left", bbox_to_anchor=(edge, 0.5), borderaxespad=0, handlelength=2.2)


def doubling(axes: Axes, steps: Sequence[int]) -> None:
    """Give the x axis powers of two."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(min(steps) * 0.93, max(steps) * 1.07)
    ticks = [2**k for k in range(max(steps).bit_length()) if 2**k >= min(steps)]
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.minorticks_off()


def colour(index: int) -> dict[str, Any]:
    """Return colour and dashes of the index-th highlighted curve: both differ from the last one's, no pair comes twice in 32."""
    turn, place = divmod(index, len(PALETTE))
    return {"color": PALETTE[place], "linestyle": DASHES[(place + turn) % len(DASHES)]}


def save(figure: Figure, file: Path) -> None:
    """Write a figure as SVG without a date; the old file stays until the new one is whole."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": "msat-bench"}, facecolor="white")
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.write_bytes(stream.getvalue())
    temporary.replace(file)


def short(text: str, length: int = 26) -> str:
    """Return a name that fits a legend."""
    return text if len(text) <= length else text[: length - 1] + "…"


def slug(text: str) -> str:
    """Return a name from a plugin as part of a file name."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip(".") or "_"
