"""results/index.html: every table and curve in one file that works from disk, without a network."""

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from benchmarks.board import by_kind, left_out, networks
from benchmarks.leaderboard import all_sections, place
from benchmarks.markdown import percent
from benchmarks.records import Record
from benchmarks.tables import Row, Section, thinned
from benchmarks.webtables import (
    Files,
    accuracy_table,
    energy_table,
    error_table,
    method_table,
    published_tables,
    rank_tables,
    sin_table,
)

PARTS = ("page.html.j2", "page.css", "page.js", "chart.umd.min.js", "chart.LICENSE.md")


def website(records: Sequence[Record], addresses: Files, costs: str) -> str:
    """Return the page.

    Args:
        records: all records; those of sample and of real data get sections of their own.
        addresses: where each record lies, relative to the page, by the record's id in memory.
        costs: name of the table of energies.
    """
    templates = {name: files("benchmarks").joinpath("templates", name).read_text(encoding="utf-8") for name in PARTS}
    environment = Environment(
        loader=DictLoader(templates), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    groups = [_group(kind, found, addresses, costs) for (_, kind), found in by_kind(records).items()]
    return environment.get_template("page.html.j2").render(
        groups=groups,
        curves={group["id"]: group["curves"] for group in groups},
        style=Markup(templates["page.css"]),
        script=Markup(templates["page.js"]),
        library=Markup(templates["chart.umd.min.js"].split("//# sourceMappingURL")[0]),
        licence=templates["chart.LICENSE.md"],
    )  # fmt: skip


def addresses(results: Path, found: Sequence[tuple[Path, Record]]) -> Files:
    """Return where records lie, relative to the results folder."""
    return {id(record): Path(os.path.relpath(file, results)).as_posix() for file, record in found}


def _group(kind: str, records: Sequence[Record], files_: Files, costs: str) -> dict[str, Any]:
    parts = all_sections(records)
    nets = networks(parts)
    profile = records[0].cell.profile
    return {
        "id": f"{profile}-{kind}",
        "title": "Real data" if kind == "real" else "Sample data",
        "profile": profile,
        "sample": kind != "real",
        "networks": [_network(net) for net in nets],
        "left_out": left_out(parts),
        "tables": [
            method_table(nets, files_), *rank_tables(nets), accuracy_table(nets), energy_table(nets, costs),
            sin_table(nets), error_table(nets), *published_tables(nets),
        ],
        "curves": {place(net): _curves(net) for net in nets},
    }  # fmt: skip


def _network(net: Section) -> dict[str, str]:
    first = net.first
    return {
        "name": place(net),
        "text": f"{first.data.label}; {first.inputs.tested:,} test inputs; ANN"
        f" {percent([first.ann.correct], first.inputs.tested)} % right, {first.ann.macs:,} multiply-accumulates",
        "page": f"{first.cell.profile}/{first.cell.task}/README.md",
    }


def _curves(net: Section) -> dict[str, Any]:
    total = net.first.inputs.tested
    return {
        "ann": round(100 * net.first.ann.correct / total, 2),
        "macs": net.first.ann.macs,
        "methods": {net.name(row): _points(row) for row in reversed(net.rows) if row.results},
    }


def _points(row: Row) -> list[list[float]]:
    """Return [step, accuracy in percent, synaptic events of one inference] for some steps."""
    total, results = row.first.inputs.tested, row.results
    scale = total * len(results)
    return [
        [
            results[0].steps[k],
            round(100 * sum(r.correct[k] for r in results) / scale, 2),
            float(f"{sum(counts[k] for r in results for counts in r.events.values()) / scale:.4g}"),
        ]
        for k in thinned(results[0].steps, 40)
    ]
