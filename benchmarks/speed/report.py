"""Tables and a plot of what was measured, with the machine named."""

import csv
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from tabulate import tabulate

from benchmarks.provenance import commit
from benchmarks.speed.contenders import BATCHES, has_spikingjelly
from benchmarks.speed.growth import RATE_STEPS, Curve
from benchmarks.speed.kernels import LayerTime
from benchmarks.speed.measure import Timing
from benchmarks.speed.subjects import SPECS

HEAD = (
    "network", "neuron", "rate %", "events ms", "step / events", "folded / events", "events / ANN", "step / ANN",
    "SJ single / events", "SJ multi / events",
)  # fmt: skip
AXES = {
    "steps": ("steps", "seconds for all images"),
    "images": ("images at once, T as above", "ms per image and step"),
    "rate": (f"firing rate, % (thresholds scaled; {RATE_STEPS} steps)", "ms per image and step"),
    "threads": ("threads (50 images at once)", "ms per image and step"),
    "memory": ("T of `make bench TASK=digits METHODS=msat`", "peak memory of the run, MiB"),
}


@dataclass
class Findings:
    """All that one run measured."""

    steps: int
    repeats: int
    compile_seconds: float
    origins: dict[str, str] = field(default_factory=dict)
    rows: list[tuple[str, str, float, Timing]] = field(default_factory=list)
    growth_of: str = ""
    growth: dict[str, Curve] = field(default_factory=dict)
    memory: list[tuple[str, str, dict[str, float]]] = field(default_factory=list)
    layers: list[LayerTime] = field(default_factory=list)


def machine() -> str:
    """Return the processor, its cores and the software."""
    listing = Path("/proc/cpuinfo")
    text = listing.read_text() if listing.exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    flags = " with AVX-512" if "avx512f" in text else ""
    load = f", load average {os.getloadavg()[0]:.1f} at the start of the report" if hasattr(os, "getloadavg") else ""
    return (
        f"{names[0] if names else platform.processor()}{flags}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}{load}"
    )


def ratio_rows(findings: Findings) -> list[list[str]]:
    """Return the main table, one row for each network and neuron."""
    table = []
    for name, neuron, rate, timing in findings.rows:
        pairs = [("step", "events"), ("folded", "events"), ("events", "ann"), ("step", "ann")]
        pairs += [(f"spikingjelly {mode}", "events") for mode in ("single", "multi")]
        ratios = [f"{timing.ratio(a, b):.2f}" if a in timing.seconds else "" for a, b in pairs]
        title = SPECS[name].title
        table.append([title, neuron, f"{100 * rate:.1f}", f"{1e3 * timing.median('events'):.3f}", *ratios])
    return table


def text(findings: Findings) -> str:
    """Return the whole report as Markdown."""
    code, dirty = commit()
    parts = [
        "# Speed",
        f"Measured on {machine()}; commit {(code or 'unknown')[:12]}{' with changes' if dirty else ''}. "
        f"T = {findings.steps}; medians of {findings.repeats} paired repeats; ms are per image and step. "
        f"Events and folded run {BATCHES} batches one after another, as a run of the benchmark does. "
        f"The kernels were ready after {findings.compile_seconds:.1f} s (compiled at first use, then cached). Step: a plain loop over"
        f" time{peer()}. Ratios are of seconds: where step / events is 4, events is four times as fast.",
        "\n".join(
            f"- {SPECS[name].title}: {origin}; {SPECS[name].batch} inputs at once"
            for name, origin in findings.origins.items()
        ),
        "## Backends",
        grid(HEAD, ratio_rows(findings)),
    ]
    if findings.growth:
        parts += [
            f"## Growth (events, IF, {SPECS[findings.growth_of].title})",
            "![growth](growth.svg)",
            *growth(findings),
        ]
    if findings.memory:
        rows = [[SPECS[n].title, k, *(f"{v:.0f}" for v in use.values())] for n, k, use in findings.memory]
        parts += ["## Peak memory of a run, MB", grid(["network", "neuron", *findings.memory[0][2]], rows)]
    if findings.layers:
        parts += ["## Single layers, µs per image and step", layers(findings.layers)]
    return "\n\n".join(parts) + "\n"


def peer() -> str:
    """Return what SJ is, where it was timed."""
    return (
        f"; SJ: SpikingJelly {version('spikingjelly')}, single-step and multi-step mode" if has_spikingjelly() else ""
    )


def grid(head: Iterable[str], rows: Sequence[Sequence[str]]) -> str:
    return str(tabulate(rows, list(head), tablefmt="github", disable_numparse=True))


def growth(findings: Findings) -> list[str]:
    tables = []
    for name, curve in findings.growth.items():
        across, up = AXES[name.split(",")[0]]
        label = across + (" (folded)" if "folded" in name else "")
        tables.append(grid([label, up], [[f"{x:g}" if x == int(x) else f"{x:.2f}", f"{y:.3f}"] for x, y in curve]))
    return tables


def layers(found: Sequence[LayerTime]) -> str:
    """Return the kernel table: times, what the cost model chose, and how far the chosen one is from its bound."""
    rows = []
    for one in found:
        times = [f"{one.times[name]:.1f}" if name in one.times else "" for name in ("gather", "scatter", "dense")]
        times_bound = one.times[one.chosen] / one.bound if one.chosen != "dense" else 0.0
        far = f"{times_bound:.1f}" if times_bound else ""
        rows.append([one.layer, f"{100 * one.density:.0f}", *times, one.chosen, f"{one.bound:.1f}", far])
    return grid(["layer", "density %", "gather", "scatter", "dense", "chosen", "bound", "times the bound"], rows)


def plot(curves: Mapping[str, Curve], file: Path) -> None:
    """Draw the growth curves side by side."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "speed"
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(AXES), figsize=(17, 3.2), constrained_layout=True)
    for panel, (name, (across, up)) in zip(panels, AXES.items(), strict=True):
        for label in [key for key in curves if key.split(",")[0] == name]:
            panel.plot(*zip(*curves[label], strict=True), marker="o", label="folded" if "," in label else "events")
        panel.set(xlabel=across, ylabel=up, ylim=(0, None))
    panels[2].legend()
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def write(findings: Findings, folder: Path) -> None:
    """Write README.md, speed.csv and growth.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(text(findings))
    with (folder / "speed.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["network", "neuron", "contender", "repeat", "seconds per image and step"])
        for name, neuron, _, timing in findings.rows:
            for contender, seconds in timing.seconds.items():
                table.writerows([name, neuron, contender, i, f"{s:.6g}"] for i, s in enumerate(seconds))
    if findings.growth:
        plot(findings.growth, folder / "growth.svg")
