"""The Markdown page of one task: tables of each network from its records, with the plots beside them."""

from collections.abc import Mapping, Sequence
from statistics import mean

from benchmarks import markdown as md
from benchmarks.energies import energies, paper_network, rebuilt_energy
from benchmarks.figures import confidence_pairs
from benchmarks.paper import paper
from benchmarks.published import BESIDE, OURS, PUBLISHED, TEXT, beside
from benchmarks.records import Record
from benchmarks.tables import (
    ENERGY_EPSILON,
    EPSILONS,
    SIN_STEP,
    Row,
    Section,
    headings,
    nearest,
    sections,
    site_means,
    site_numbers,
    sites,
)
from msat import energy

Plots = Mapping[str, str]
"""File names of a network's plots by kind."""


TRACE = (
    "Neurons of the last site over the first steps for one calibration input, a row of panels for each method: left, the"
    " neuron with the largest pre-activation in the ANN; middle, the median of those above zero; right, of those that"
    " should stay silent, the one with the largest current before any spike arrives. Older records followed other neurons,"
    " as the titles say."
)


def page(
    parts: Sequence[Section],
    plots: Sequence[Plots] = (),
    costs: str = energy.DEFAULT,
    tables: Sequence[str] = (),
) -> str:
    """Return the Markdown page of one task under one profile.

    Args:
        parts: one section per network.
        plots: the plots of each section; none where they were not drawn.
        costs: name of the table of energies.
        tables: names of the CSV files beside the page.
    """
    first = parts[0].first
    blocks = [f"# {md.escape(first.task.title)} – profile {first.cell.profile}"]
    if first.cell.profile == "sample":
        blocks.append("Embedded sample data and small networks: for a quick look, not comparable with the papers.")
    for part, name, drawn in zip(parts, headings(parts), plots or [{}] * len(parts), strict=True):
        blocks += [
            f"## {md.escape(name)}",
            header(part),
            *accuracy(part),
            *_image(drawn, "accuracy", "Accuracy against T and against synaptic operations"),
            *published(part),
            *_image(drawn, "ablation", "Ablation: the whole method, its terms alone, fractions of the maximum"),
            *confidence(part),
            *_image(
                drawn, "confidence", "Accuracy and spikes of inactivated neurons without and with spike confidence"
            ),
            *sin(part),
            *_image(drawn, "sin", "SIN ratio of every site at several steps"),
            *_image(drawn, "error", "Conversion error of every site"),
            *_image(drawn, "trace", "Current, potential, threshold and spikes of chosen neurons over time", TRACE),
            *energies(part, energy.costs(costs)),
            *(rebuilt_energy([part]) if paper_network(part) else []),
            *notes(part),
        ]
    if tables:
        blocks.append("All numbers with more digits: " + ", ".join(f"[{name}]({name})" for name in tables) + ".")
    return "\n\n".join(blocks) + "\n"


def _image(drawn: Plots, kind: str, title: str, *text: str) -> list[str]:
    return [f"![{title}]({drawn[kind]})", *text] if kind in drawn else []


def header(part: Section) -> str:
    """Return what the tables of a network rest on."""
    first, records = part.first, [record for row in part.rows for record in row.records]
    data, ann, inputs = first.data, first.ann, first.inputs
    origin = f"trained here, {ann.recipe['epochs']} epochs" if ann.recipe else ann.origin
    repeated = len({record.cell.seed for record in records})
    seeds = f"{repeated} for stochastic methods, else 1" if repeated > 1 else "1"
    lines = [
        f"- Data: **{data.kind}** – {md.escape(data.label)}",
        f"- ANN: {md.percent([ann.correct], inputs.tested)} % right, {md.number(ann.macs)} multiply-accumulates"
        f" (products with padding left out), weights {ann.weights} ({origin})",
        f"- Test inputs: {inputs.tested:,} of {data.test_size:,} ({inputs.selection})",
        f"- Calibration: {inputs.calibration} {inputs.calibration_rule}; rules that simulate the spiking network layer by layer"
        " take the first of them (balancing, calibration of biases, potentials and weights: see Methods)",
        f"- Steps T: {_list(sorted({row.steps for row in part.rows}))}; seeds: {seeds}",
        f"- Code: commit {', '.join(sorted({run.version for record in records for run in record.runs}))}",
        f"- Device: {_devices(part)}",
    ]
    if first.cell.adaptive:
        values = ", ".join(f"{name} = {value:g}" for name, value in first.cell.adaptive.items())
        lines.append(
            "- Adaptive thresholds (Table 2 of the paper; networks it does not name take VGG16's values, with"
            f" shortcuts ResNet20's): {md.escape(values)}"
        )
    return "\n".join(lines)


def accuracy(part: Section) -> list[str]:
    """Return the first table: accuracy against T, latency, agreement."""
    checkpoints, total = part.checkpoints, part.first.inputs.tested
    many = len({row.steps for row in part.rows}) > 1
    names = [
        "Method",
        *(f"T = {t}" for t in checkpoints),
        *(f"settled, {e:g} pt" for e in EPSILONS),
        "best step, nominal",
        "real T",
        "agrees at T, %",
    ]
    rows = [
        ["ANN", *[md.percent([part.first.ann.correct], total)] * len(checkpoints), *[md.NONE] * (len(EPSILONS) + 3)]
    ]
    for row in part.rows:
        name = md.escape(row.label) + (f" (T = {row.steps})" if many else "")
        if not row.results:
            rows.append([name, f"**{md.escape(row.fault)}**", *[md.NONE] * (len(names) - 2)])
            continue
        cells = _curve(row, part)
        latencies = [md.steps(row.real_latency(points)) for points in EPSILONS]
        agree = md.percent([r.agree[-1] for r in row.results], total, interval=False)
        name += _pace(row)
        rows.append([name, *cells, *latencies, _best(row), str(row.results[0].real_latency[-1]), agree])
    text = (
        "Right answers in percent with 95 % Wilson intervals; ± is the standard deviation over seeds. Columns: nominal T."
        " Settled: real steps until the answer from which on accuracy is at most so many points below the ANN's (– : not"
        " within T; behind a row's T there is no accuracy either); methods converted anew for every T settle at a"
        " checkpoint. Best step: what papers print, the step with most right answers (chosen on the test inputs, so it"
        " never ranks) and its accuracy. Real T: steps until the answer after T nominal steps is out; where it is more"
        " than T, so is the real latency of every column. Rows in order of the latency"
        f" settled within {ENERGY_EPSILON:g} point, then of accuracy at T. A method whose steps are several real ones each"
        " says so behind its name."
    )
    return ["### Accuracy", md.table(names, rows), text]


def _pace(row: Row) -> str:
    """Return how many real steps a nominal one takes, where several; steps before the first or after the last are no pace."""
    result = row.results[0]
    if len(result.checkpoints) < 2:
        return ""
    real = (result.real_latency[-1] - result.real_latency[-2]) / (result.checkpoints[-1] - result.checkpoints[-2])
    return f" ({real:.3g} real steps each)" if real > 1 else ""


def _best(row: Row) -> str:
    right = [max(r.correct) for r in row.results]
    return f"{md.steps(row.best())} ({md.percent(right, row.first.inputs.tested, interval=False)})"


def _curve(row: Row, part: Section, interval: bool = True) -> list[str]:
    """Return the accuracy at every checkpoint of the section that the row has."""
    total = part.first.inputs.tested
    return [
        md.percent([r.correct[r.steps.index(t)] for r in row.results], total, interval)
        if t in row.results[0].checkpoints
        else md.NONE
        for t in part.checkpoints
    ]


def published(part: Section) -> list[str]:
    """Return the published rows of the task with what was measured here beside them (Tables 3 to 5 of the paper)."""
    rows = [[md.escape(text) for text in row] for row in beside(part)]
    return ["### Published and measured", md.table([*PUBLISHED, *OURS], rows, TEXT), BESIDE] if rows else []


def confidence(part: Section) -> list[str]:
    """Return Table 6 of the paper: ANS of the last site and accuracy, without and with spike confidence."""
    pairs = confidence_pairs(part)
    if not pairs:
        return []
    rows = []
    for row in (row for pair in pairs for row in pair):
        at = nearest(row.results[0].checkpoints, paper().confidence_step)
        step = row.results[0].checkpoints[at]
        right = [r.correct[r.steps.index(step)] for r in row.results]
        numbers = [site_numbers(sites(r)[-1], at) for r in row.results]
        rows.append(
            [
                md.escape(part.name(row)), str(step), md.number(mean(n["ans"] for n in numbers)),
                f"{mean(n['confidence'] for n in numbers):.3f}", md.percent(right, row.first.inputs.tested),
            ]
        )  # fmt: skip
    names = ["Method", "at t", "ANS, last site", "of those that fired, share with z > 0, last site", "right answers, %"]
    return ["### Spike confidence", md.table(names, rows)]


def sin(part: Section) -> list[str]:
    """Return the second table: SIN ratio per site, ANS of the last site, the site of the largest conversion error."""
    good = [row for row in part.rows if row.results]
    if not good:
        return []
    numbered = sites(good[0].results[0])
    names = ["Method", "at t", *(str(n) for n in range(1, len(numbered) + 1)), "ANS, last", "worst site (error)"]
    rows = [_sin_row(part, row, len(names)) for row in part.rows]
    legend = ", ".join(f"{n} {md.escape(site.name)}" for n, site in enumerate(numbered, 1))
    text = (
        f"SIN ratio, percent: neurons that should be silent but have fired by step t, of those that should be silent. ANS:"
        f" spikes of each such neuron. Worst site: largest squared conversion error at the row's own T relative to the squared activation."
        f" On {part.first.inputs.diagnosed} calibration inputs, mean over seeds. Sites: {legend}."
    )
    return ["### Spikes of inactivated neurons", md.table(names, rows), text]


def _status(row: Row) -> str:
    """Return `failed` or `skipped`; the first table says why."""
    return row.fault.split(":")[0]


def _sin_row(part: Section, row: Row, width: int) -> list[str]:
    name = md.escape(part.name(row))
    if not row.results:
        return [name, _status(row), *[md.NONE] * (width - 2)]
    steps = row.results[0].checkpoints
    index = nearest(steps, SIN_STEP)
    errors = site_means(row, -1, "relative_error")
    return [
        name,
        str(steps[index]),
        *(f"{100 * ratio:.1f}" for ratio in site_means(row, index, "sin_ratio")),
        md.number(site_means(row, index, "ans")[-1]),
        f"{errors.index(max(errors)) + 1} ({md.number(max(errors), 2)})",
    ]


def notes(part: Section) -> list[str]:
    """Return what each row is, and what in it is reconstructed."""
    found: dict[str, str] = {}
    for row in sorted(part.rows, key=lambda row: row.label):
        method = row.first.method
        extra = [method.mark] if method.mark else []
        extra += ["converted anew for every T"] if method.recalibrate_per_T else []
        extra += [f"{len(row.records)} seeds"] if method.stochastic else []
        extra += [] if method.causal else ["looks ahead"]
        tail = f" ({', '.join(extra)})" if extra else ""
        parameters = ", ".join(f"{name} = {value}" for name, value in row.first.cell.parameters.items())
        remark = f" Parameters: {md.escape(parameters)}." if parameters else ""
        remark += f" Reconstruction: {md.escape(method.reconstruction)}" if method.reconstruction else ""
        found[row.label] = (
            f"- **{md.escape(row.label)}**: {md.escape(method.title)}. {md.escape(method.source)}{tail}.{remark}"
        )
    return ["### Methods", "\n".join(found.values())]


def summary(records: Sequence[Record]) -> str:
    """Return the first table of each network of a task for a terminal: accuracy without intervals."""
    texts, parts = [], sections(records)
    for part, name in zip(parts, headings(parts), strict=True):
        total, checkpoints = part.first.inputs.tested, part.checkpoints
        rows = [["ANN", *[md.percent([part.first.ann.correct], total, False)] * len(checkpoints), ""]]
        for row in part.rows:
            if row.results:
                rows.append([part.name(row), *_curve(row, part, False), md.steps(row.real_latency(ENERGY_EPSILON))])
            else:
                rows.append([part.name(row), _status(row), *[""] * len(checkpoints)])
        names = ["method", *(f"T={t}" for t in checkpoints), f"settled, {ENERGY_EPSILON:g} pt"]
        inputs = f"{total:,} test inputs"
        title = ", ".join([part.first.task.title, name, *([] if inputs in name else [inputs]), "% right"])
        texts.append(f"{title}\n{md.plain(names, rows)}")
    return "\n\n".join(texts)


def _devices(part: Section) -> str:
    """Return the device of most rows, then every other with the rows that were counted there and by what arithmetic."""
    places: dict[str, list[str]] = {}
    for row in part.rows:
        runs = [run for record in row.records for run in record.runs]
        where = ", ".join(sorted({f"{run.device}, {run.backend}" for run in runs}))
        places.setdefault(where, []).append(part.name(row))
    usual, *others = sorted(places, key=lambda where: -len(places[where]))
    return md.escape("; ".join([usual, *(f"{where}: {', '.join(places[where])}" for where in others)]))


def _list(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
