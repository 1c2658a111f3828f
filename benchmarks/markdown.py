"""Numbers and foreign text as Markdown."""

import re
from collections.abc import Sequence
from statistics import mean, stdev

from tabulate import tabulate

from benchmarks.statistics import decimals, wilson

NONE = "–"
SPECIAL = re.compile(r"([\\`*_\[\]|~$#])")


def escape(text: str) -> str:
    """Return text from plugins or data so that Markdown shows it as it is, on one line."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return SPECIAL.sub(r"\\\1", plain)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table of cells that are Markdown already; all columns but the first are aligned right."""
    align = ["left"] + ["right"] * (len(headers) - 1)
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
    """Return a number with some significant digits, without an exponent below a thousand million."""
    if value == 0:
        return "0"
    return f"{value:.{digits}g}" if 1e-3 <= abs(value) < 10**digits else _scaled(value, digits)


def _scaled(value: float, digits: int) -> str:
    if abs(value) < 1e-3:
        return f"{value:.{digits - 1}e}"
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= unit:
            return f"{value / unit:.{digits}g}{name}"
    return f"{value:.{digits}g}"


def plain(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for the terminal."""
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True)
