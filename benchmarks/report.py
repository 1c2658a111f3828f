"""Rebuilds everything that is made from records: the same records give the same bytes."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from benchmarks.costs import energy_frame
from benchmarks.page import page
from benchmarks.records import Record, read_files, task_folders
from benchmarks.tables import Section, accuracy_frame, latency_frame, sections, site_frame
from msat import energy

CSV: dict[str, Callable[[Section], pd.DataFrame]] = {
    "accuracy.csv": accuracy_frame,
    "latency.csv": latency_frame,
    "sites.csv": site_frame,
}
ENERGY = "energy.csv"


@dataclass
class Report:
    """What was written and what could not be read."""

    written: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)


def report_all(results: Path, costs: str = energy.DEFAULT) -> Report:
    """Rebuild the pages of every profile and task, the leaderboard and index.html."""
    return report_tasks(results, task_folders(results), costs)


def report_tasks(results: Path, folders: Sequence[Path], costs: str = energy.DEFAULT) -> Report:
    """Rebuild the pages of some tasks, and the leaderboard and index.html, which show all."""
    energy.costs(costs)
    report = Report()
    records: list[tuple[Path, Record]] = []
    for folder in task_folders(results):
        found, broken = read_files(folder)
        records += found
        if folder in folders:
            report.broken += broken
            report.written += write_task(folder, [record for _, record in found], costs)
    if records:
        report.written += write_overall(results, records, costs)
    return report


def write_task(folder: Path, records: Sequence[Record], costs: str = energy.DEFAULT) -> list[Path]:
    """Write tables and plots of one task; return its page, or nothing where there is no record."""
    if not records:
        return []
    from benchmarks.figures import draw_all  # draws only when there is something: matplotlib is slow to import

    parts = sections(records)
    for name, frame in CSV.items():
        _csv(folder / name, [frame(part) for part in parts])
    _csv(folder / ENERGY, [energy_frame(part, energy.costs(costs)) for part in parts])
    plots = [draw_all(part, folder, stem) for part, stem in zip(parts, _stems(parts), strict=True)]
    kept = {name for drawn in plots for name in drawn.values()}
    for stale in folder.glob("*.svg"):
        if stale.name not in kept:
            stale.unlink()
    return [replace(folder / "README.md", page(parts, plots, costs, [*CSV, ENERGY]))]


def write_overall(results: Path, found: Sequence[tuple[Path, Record]], costs: str = energy.DEFAULT) -> list[Path]:
    """Write the leaderboard and the web page from records and their files."""
    from benchmarks.leaderboard import leaderboard
    from benchmarks.website import addresses, website

    records = [record for _, record in found]
    text, diagrams = leaderboard(records)
    for stale in results.glob("critical-difference-*.svg"):
        if stale.name not in diagrams:
            stale.unlink()
    for name, draw in diagrams.items():
        draw(results / name)
    return [
        replace(results / "LEADERBOARD.md", text),
        replace(results / "index.html", website(records, addresses(results, found), costs)),
    ]


def _stems(parts: Sequence[Section]) -> list[str]:
    """Return a name for each section's plots: the network's, numbered where it occurs again."""
    names = [part.model for part in parts]
    return [
        name if names.count(name) == 1 else f"{name}-{names[: index + 1].count(name)}"
        for index, name in enumerate(names)
    ]


def _csv(file: Path, frames: Sequence[pd.DataFrame]) -> None:
    frames = [frame for frame in frames if len(frame)]
    replace(file, pd.concat(frames).to_csv(index=False, float_format="%.8g", lineterminator="\n") if frames else "")


def replace(file: Path, text: str) -> Path:
    """Write a file so that a reader sees the old one or the new one."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)
    return file
