"""Writes a task's README.md and CSV files from its records: the same records give the same bytes."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd

from benchmarks import markdown as md
from benchmarks.records import Record, read_records
from benchmarks.tables import (
    ENERGY_EPSILON,
    EPSILONS,
    SIN_STEP,
    Row,
    Section,
    accuracy_frame,
    energy_frame,
    latency_frame,
    nearest,
    sections,
    site_frame,
    site_numbers,
    sites,
)
from msat import energy

CSV: dict[str, Callable[[Section], pd.DataFrame]] = {
    "accuracy.csv": accuracy_frame,
    "latency.csv": latency_frame,
    "sites.csv": site_frame,
    "energy.csv": energy_frame,
}


def report_all(results: Path) -> tuple[list[Path], list[Path]]:
    """Rebuild the tables of every profile and task; return the README files written and the files that are no records."""
    written, broken = [], []
    for folder in sorted(path for profile in ("sample", "full") for path in (results / profile).glob("*/")):
        file, bad = report_task(folder)
        broken += bad
        written += [file] if file else []
    return written, broken


def report_task(folder: Path) -> tuple[Path | None, list[Path]]:
    """Rebuild the tables of one task; None where it has no record."""
    records, broken = read_records(folder)
    if not records:
        return None, broken
    parts = sections(records)
    for name, frame in CSV.items():
        frames = [part for part in map(frame, parts) if len(part)]
        text = pd.concat(frames).to_csv(index=False, float_format="%.8g", lineterminator="\n") if frames else ""
        _replace(folder / name, text)
    file = folder / "README.md"
    _replace(file, page(parts))
    return file, broken


def page(parts: Sequence[Section]) -> str:
    """Return the Markdown page of one task under one profile."""
    first = parts[0].first
    blocks = [f"# {md.escape(first.task.title)} – profile {first.cell.profile}"]
    if first.cell.profile == "sample":
        blocks.append("Embedded sample data and small networks: for a quick look, not comparable with the papers.")
    for part in parts:
        blocks += [
            f"## {md.escape(part.model)}",
            header(part),
            *accuracy(part),
            *sin(part),
            *energies(part),
            *notes(part),
        ]
    blocks.append("All numbers with more digits: " + ", ".join(f"[{name}]({name})" for name in CSV) + ".")
    return "\n\n".join(blocks) + "\n"


def header(part: Section) -> str:
    """Return what the tables of a network rest on."""
    first, records = part.first, [record for row in part.rows for record in row.records]
    data, ann, inputs = first.data, first.ann, first.inputs
    remarks = "".join(f"; {md.escape(remark)}" for remark in data.remarks)
    origin = f"trained here, {ann.recipe['epochs']} epochs" if ann.recipe else ann.origin
    seeds = sorted({record.cell.seed for record in records})
    lines = [
        f"- Data: **{data.kind}** – {md.escape(data.summary)}{remarks}",
        f"- ANN: {md.percent([ann.correct], inputs.tested)} % right, {md.number(ann.macs)} multiply-accumulates,"
        f" weights {ann.weights} ({origin})",
        f"- Test inputs: {inputs.tested:,} of {data.test_size:,} ({inputs.selection})",
        f"- Calibration: {inputs.calibration} {inputs.calibration_rule}",
        f"- Steps T: {_list(sorted({row.steps for row in part.rows}))}; seeds: {len(seeds)} for stochastic methods, else 1",
        f"- Code: {_commits(records)}",
    ]
    return "\n".join(lines)


def accuracy(part: Section) -> list[str]:
    """Return the first table: accuracy against T, latency, agreement."""
    checkpoints, total = part.checkpoints, part.first.inputs.tested
    many = len({row.steps for row in part.rows}) > 1
    names = [
        "Method",
        *(f"T = {t}" for t in checkpoints),
        *(f"settled, {e:g} pt" for e in EPSILONS),
        "real T",
        "agrees, %",
    ]
    rows = [["ANN", *[md.percent([part.first.ann.correct], total)] * len(checkpoints), *["–"] * 5]]
    for row in part.rows:
        name = md.escape(row.label) + (f" (T = {row.steps})" if many else "")
        if not row.results:
            rows.append([name, f"**{md.escape(row.fault)}**", *[md.NONE] * (len(names) - 2)])
            continue
        cells = _curve(row, part)
        latencies = [md.steps(row.latency(points)) for points in EPSILONS]
        agree = md.percent([r.agree[-1] for r in row.results], total, interval=False)
        rows.append([name, *cells, *latencies, str(row.results[0].real_latency[-1]), agree])
    text = (
        "Right answers in percent with 95 % Wilson intervals; ± is the standard deviation over seeds. Settled: first step"
        " from which accuracy stays within so many points of the ANN (– : not within T); methods converted anew for every T"
        " settle at a checkpoint. Real T: steps until the answer after T nominal steps is out. Rows in order of the latency"
        f" settled within {ENERGY_EPSILON:g} point, then of accuracy at T."
    )
    return ["### Accuracy", md.table(names, rows), text, *_published(part)]


def _curve(row: Row, part: Section, interval: bool = True) -> list[str]:
    """Return the accuracy at every checkpoint of the section that the row has."""
    total = part.first.inputs.tested
    return [
        md.percent([r.correct[r.steps.index(t)] for r in row.results], total, interval)
        if t in row.results[0].checkpoints
        else md.NONE
        for t in part.checkpoints
    ]


def _published(part: Section) -> list[str]:
    published = part.first.task.published
    if not published:
        return []
    rows = [
        [
            md.escape(p.method), md.NONE if p.ann is None else f"{p.ann:g}", f"{p.snn:g}",
            md.NONE if p.steps is None else str(p.steps), md.escape(p.source),
        ]
        for p in published
    ]  # fmt: skip
    return [
        "Published (other trained networks, other recipes; not measured here and never ranked):",
        md.table(["Published method", "ANN, %", "SNN, %", "T", "source"], rows),
    ]


def sin(part: Section) -> list[str]:
    """Return the second table: SIN ratio per site, ANS of the last site, the site of the largest conversion error."""
    good = [row for row in part.rows if row.results]
    if not good:
        return []
    numbered = sites(good[0].results[0])
    names = ["Method", "at t", *(str(n) for n in range(1, len(numbered) + 1)), "ANS, last", "worst site (error)"]
    rows = [_sin_row(row, len(names)) for row in part.rows]
    legend = ", ".join(f"{n} {md.escape(site.name)}" for n, site in enumerate(numbered, 1))
    text = (
        f"SIN ratio, percent: neurons that should be silent but have fired by step t, of those that should be silent. ANS:"
        f" spikes of each such neuron. Worst site: largest squared conversion error relative to the squared activation."
        f" On {part.first.inputs.diagnosed} calibration inputs, mean over seeds. Sites: {legend}."
    )
    return ["### Spikes of inactivated neurons", md.table(names, rows), text]


def _sin_row(row: Row, width: int) -> list[str]:
    if not row.results:
        return [md.escape(row.label), row.first.status, *[md.NONE] * (width - 2)]
    steps = row.results[0].checkpoints
    index = nearest(steps, SIN_STEP)
    seeds = [[site_numbers(site, index) for site in sites(result)] for result in row.results]
    sites_ = [{key: mean(seed[n][key] for seed in seeds) for key in seeds[0][n]} for n in range(len(seeds[0]))]
    worst = max(range(len(sites_)), key=lambda n: sites_[n]["relative_error"])
    return [
        md.escape(row.label),
        str(steps[index]),
        *(f"{100 * site['sin_ratio']:.1f}" for site in sites_),
        f"{sites_[-1]['ans']:.2f}",
        f"{worst + 1} ({md.number(sites_[worst]['relative_error'], 2)})",
    ]


def energies(part: Section) -> list[str]:
    """Return the third table: operations and energy of one inference under both accountings."""
    frame = energy_frame(part)
    names = ["Method", "t", "synaptic events", "of them graded", "neuron operations", "paper, µJ", "paper / ANN",
             "strict, µJ", "strict / ANN"]  # fmt: skip
    rows = []
    for row in part.rows:
        mine = frame[(frame.method == row.label) & (frame["T"] == row.steps)]
        if not row.results:
            rows.append([md.escape(row.label), row.first.status, *[md.NONE] * (len(names) - 2)])
            continue
        rows += [_energy_row(row, place, mine[mine["at"] == place], len(names)) for place in ("T", "settled")]
    cost = energy.costs()
    text = (
        f"For one inference, mean over inputs and seeds; first at T, then where accuracy has settled within"
        f" {ENERGY_EPSILON:g} point. Energy of the ANN: {md.number(_micro(energy.ann(_ann_counts(part), cost)))} µJ."
        " Paper: every event an accumulate, the first layer multiply-accumulates once. Strict: graded events are"
        " multiply-accumulates, burst events count each spike, the neurons' own operations count."
        f" AC {cost.accumulate:g} pJ, MAC {cost.multiply_accumulate:g} pJ ({md.escape(cost.source)})."
    )
    return ["### Operations and energy", md.table(names, rows), text]


def _energy_row(row: Row, place: str, frame: pd.DataFrame, width: int) -> list[str]:
    name = md.escape(row.label) + ("" if place == "T" else ", settled")
    steps = list(frame["step"])
    if any(pd.isna(step) for step in steps):
        return [name, *[md.NONE] * (width - 1)]
    means: dict[str, Any] = frame.select_dtypes("number").mean().to_dict()
    return [
        name,
        md.steps([int(step) for step in steps]),
        md.number(means["synaptic_events"]),
        f"{100 * means['graded_events'] / means['synaptic_events']:.0f} %" if means["synaptic_events"] else "0 %",
        md.number(means["neuron_operations"]),
        md.number(_micro(means["paper_pj"])),
        f"{means['paper_ratio']:.3f}",
        md.number(_micro(means["strict_pj"])),
        f"{means['strict_ratio']:.3f}",
    ]


def _micro(pico: float) -> float:
    return pico * 1e-6


def _ann_counts(part: Section) -> energy.Counts:
    return energy.Counts(part.first.ann.macs, 0, {}, {})


def notes(part: Section) -> list[str]:
    """Return what each row is, and what in it is reconstructed."""
    found: dict[str, str] = {}
    for row in sorted(part.rows, key=lambda row: row.label):
        method = row.first.method
        extra = [] if method.category == "post-training" else [method.category]
        extra += ["converted anew for every T"] if method.recalibrate_per_T else []
        extra += [f"{len(row.records)} seeds"] if method.stochastic else []
        extra += [] if method.causal else ["looks ahead"]
        tail = f" ({', '.join(extra)})" if extra else ""
        remark = f" Reconstruction: {md.escape(method.reconstruction)}" if method.reconstruction else ""
        found[row.label] = (
            f"- **{md.escape(row.label)}**: {md.escape(method.title)}. {md.escape(method.source)}{tail}.{remark}"
        )
    return ["### Methods", "\n".join(found.values())]


def summary(folder: Path) -> str:
    """Return the first table of each network of a task for a terminal: accuracy without intervals."""
    texts = []
    for part in sections(read_records(folder)[0]):
        total, checkpoints = part.first.inputs.tested, part.checkpoints
        rows = [["ANN", *[md.percent([part.first.ann.correct], total, False)] * len(checkpoints), ""]]
        for row in part.rows:
            if row.results:
                rows.append([row.label, *_curve(row, part, False), md.steps(row.latency(ENERGY_EPSILON))])
            else:
                rows.append([row.label, row.first.status, *[""] * len(checkpoints)])
        names = ["method", *(f"T={t}" for t in checkpoints), f"settled, {ENERGY_EPSILON:g} pt"]
        texts.append(f"{part.first.task.title}, {part.model}, {total:,} test inputs, % right\n" + md.plain(names, rows))
    return "\n\n".join(texts)


def _commits(records: Sequence[Record]) -> str:
    found = sorted(
        {(record.run.commit or "unknown")[:12] + (" with changes" if record.run.dirty else "") for record in records}
    )
    devices = sorted({record.run.device for record in records})
    return f"commit {', '.join(found)}; device {md.escape(', '.join(devices))}"


def _list(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _replace(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)
