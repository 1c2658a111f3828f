"""The table of operations and energy of one network, as Markdown."""

from collections.abc import Mapping

from benchmarks import markdown as md
from benchmarks.tables import ENERGY_EPSILON, Row, Section, energy_means
from msat import energy


def energies(part: Section, cost: energy.Costs) -> list[str]:
    """Return the third table: operations and energy of one inference under both accountings."""
    means = energy_means(part, cost)
    names = ["Method", "t", "synaptic events", "of them graded", "neuron operations", "paper, µJ", "first layer + synapses",
             "paper / ANN", "strict, µJ", "first layer + synapses + neurons", "strict / ANN"]  # fmt: skip
    rows = []
    for row in part.rows:
        if not row.results:
            rows.append([md.escape(row.label), row.fault.split(":")[0], *[md.NONE] * (len(names) - 2)])
            continue
        steps = {"T": md.steps([row.steps]), "settled": md.steps(row.latency(ENERGY_EPSILON))}
        rows += [
            _energy_row(row, place, steps[place], means.get((row.label, row.steps, place)), len(names))
            for place in steps
        ]
    text = (
        f"For one inference, mean over inputs and seeds; first at T, then where accuracy has settled within"
        f" {ENERGY_EPSILON:g} point. Energy of the ANN: {md.number(_micro(energy.ann(_ann_counts(part), cost)))} µJ."
        " Paper: every event an accumulate, the first layer multiply-accumulates once. Strict: graded events are"
        " multiply-accumulates, burst events count each spike, the neurons' own operations count."
        f" AC {cost.accumulate:g} pJ, MAC {cost.multiply_accumulate:g} pJ ({md.escape(cost.source)})."
    )
    return ["### Operations and energy", md.table(names, rows), text]


def _energy_row(row: Row, place: str, steps: str, means: Mapping[str, float] | None, width: int) -> list[str]:
    name = md.escape(row.label) + ("" if place == "T" else ", settled")
    if means is None:
        return [name, *[md.NONE] * (width - 1)]
    return [
        name,
        steps,
        md.number(means["synaptic_events"]),
        f"{100 * means['graded_events'] / means['synaptic_events']:.0f} %" if means["synaptic_events"] else "0 %",
        md.number(means["neuron_operations"]),
        md.number(_micro(means["paper_pj"])),
        _split(means, "paper_first_pj", "paper_synapses_pj"),
        f"{means['paper_ratio']:.3f}",
        md.number(_micro(means["strict_pj"])),
        _split(means, "strict_first_pj", "strict_synapses_pj", "strict_neurons_pj"),
        f"{means['strict_ratio']:.3f}",
    ]


def _split(means: Mapping[str, float], *names: str) -> str:
    return " + ".join(md.number(_micro(means[name]), 2) for name in names)


def _micro(pico: float) -> float:
    return pico * 1e-6


def _ann_counts(part: Section) -> energy.Counts:
    return energy.Counts(part.first.ann.macs, 0, {}, {})
