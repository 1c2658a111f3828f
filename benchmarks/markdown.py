"""Numbers and foreign text as Markdown."""

import math
import re
from collections.abc import Collection, Sequence
from statistics import mean, stdev

from tabulate import tabulate

from benchmarks.statistics import decimals, wilson

NONE = "–"
UNITS = ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"))
SPECIAL = re.compile(r"([\\`*_\[\]|~$#])")


def escape(text: str) -> str:
    """Return text from plugins or data so that Markdown shows it as it is, on one line."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return SPECIAL.sub(r"\\\1", plain)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[str] = ()) -> str:
    """Return a Markdown table of cells that are Markdown already; the first column and those in `left` are aligned left."""
    align = ["left" if name == headers[0] or name in left else "right" for name in headers]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=align)


def percent(right: Sequence[int], total: int, interval: bool = True) -> str:
    """Return an accuracy with its 95 % interval; over several seeds mean and standard deviation."""
    low, high = (100 * end for end in wilson(right[0], total))
    digits = decimals(low, high)
    shares = [100 * r / total for r in right]
    if len(shares) > 1:
        return f"{mean(shares):.{digits}f} ± {stdev(shares):.{digits}f}"
    spread = f" ({low:.{digits}f}–{high:.{digits}f})" if interval else ""
    return f"{shares[0]:.{digits}f}{spread}"


def steps(found: Sequence[int | None]) -> str:
    """Return a latency; over several seeds the mean and the range, and nothing unless every seed has one."""
    known = [t for t in found if t is not None]
    if not known or len(known) < len(found):
        return NONE
    return f"{known[0]}" if len(set(known)) == 1 else f"{mean(known):.0f} ({min(known)}–{max(known)})"


def number(value: float, digits: int = 3) -> str:
    """Return a number rounded to some significant digits, with k, M, G or T behind it, and an exponent only if it is tiny."""
    if not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        return f"{value:.{digits - 1}e}"
    rounded = float(f"{value:.{digits}g}")
    unit, name = next(((u, n) for u, n in UNITS if abs(rounded) >= u), (1.0, ""))
    shown = rounded / unit
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(shown))))
    return f"{shown:.{decimals}f}{name}"


def microjoules(pico: float) -> str:
    """Return an energy in pJ as a number of µJ, without a letter behind it."""
    value = pico * 1e-6
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 1000 else number(value)


def plain(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for the terminal."""
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True)
