"""Operations and energy as Markdown: the table of one network, and the paper's energy ratio rebuilt."""

from collections.abc import Mapping, Sequence

from benchmarks import markdown as md
from benchmarks.costs import energy_counts, energy_means
from benchmarks.paper import paper
from benchmarks.tables import ENERGY_EPSILON, Row, Section, ranked_rows
from msat import energy


def energies(part: Section, cost: energy.Costs) -> list[str]:
    """Return the third table: operations and energy of one inference under both accountings."""
    means = energy_means(part, cost)
    names = ["Method", "t, nominal", "synaptic events", "of them graded", "neuron operations", "paper, µJ", "before spikes + synapses",
             "paper / ANN", "strict, µJ", "before spikes + synapses + neurons", "strict / ANN"]  # fmt: skip
    rows = []
    for row in part.rows:
        if not row.results:
            rows.append([md.escape(part.name(row)), row.fault.split(":")[0], *[md.NONE] * (len(names) - 2)])
            continue
        steps = {"T": md.steps([row.steps]), "settled": md.steps(row.latency(ENERGY_EPSILON))}
        for place, at in steps.items():
            name = md.escape(part.name(row)) + ("" if place == "T" else ", settled")
            found = means.get((row.label, row.steps, place))
            filled = [at, *_numbers(found)] if found else ["not within T", *[md.NONE] * (len(names) - 2)]
            rows.append([name, *filled])
    text = (
        f"For one inference, mean over inputs and seeds; first at T, then where accuracy has settled within"
        f" {ENERGY_EPSILON:g} point. Energy of the ANN: {md.microjoules(energy.ann(_ann_counts(part), cost))} µJ."
        " Paper: every event an accumulate, the layers that spikes do not reach multiply-accumulates once. Strict: graded events are"
        " multiply-accumulates, events of several spikes count each, the neurons' own operations count; a signed event, or one of a power of two"
        " of its layer's threshold, is an accumulate, for a shift is free; what a pool of signed spikes sends is taken as graded."
        " In both, what lies before the spikes (the first layer; with a recurrent front the whole front), whose input is constant,"
        " is computed once; a first pass (SRP, COS) counts from step 1 on. Products with padding are left out."
        f" AC {cost.accumulate:g} pJ, MAC {cost.multiply_accumulate:g} pJ ({md.escape(cost.source)});"
        f" an exponential or logarithm of a neuron is taken as {cost.transcendental:g} pJ. The ANN computes every product, those with zeros too. Memory,"
        " state and event-queue accesses, static energy and the buffers of methods that are not causal count nowhere."
    )
    return ["### Operations and energy", md.table(names, rows), text]


def _numbers(means: Mapping[str, float]) -> list[str]:
    return [
        md.number(means["synaptic_events"]),
        f"{100 * means['graded_events'] / means['synaptic_events']:.0f} %" if means["synaptic_events"] else "0 %",
        md.number(means["neuron_operations"]),
        md.microjoules(means["paper_pj"]),
        _split(means, "paper_first_pj", "paper_synapses_pj"),
        md.number(means["paper_ratio"]),
        md.microjoules(means["strict_pj"]),
        _split(means, "strict_first_pj", "strict_synapses_pj", "strict_neurons_pj"),
        md.number(means["strict_ratio"]),
    ]


def _split(means: Mapping[str, float], *names: str) -> str:
    return " + ".join(md.microjoules(means[name]) for name in names)


def _ann_counts(part: Section) -> energy.Counts:
    return energy.Counts(part.first.ann.macs, 0, {}, {})


def rebuilt_energy(nets: Sequence[Section]) -> list[str]:
    """Return the paper's energy ratio, what its formula gives from the released rates, and ours where it was measured."""
    claim = paper().energy
    lines = [
        f"The paper's converted {md.escape(claim.task)} {md.escape(claim.model)} is said to need"
        f" {100 * claim.published_ratio:.2f} % of the ANN's energy. From the rates that the authors released for"
        f" {md.escape(claim.method)} at T = {claim.steps}, the paper's formula (AC 0.9 pJ, MAC 4.6 pJ, first layer once) gives"
        f" {100 * claim.rebuilt():.1f} %, and {100 * claim.rebuilt(graded=True):.0f} % if its graded spikes are charged as"
        " multiply-accumulates, which they are: the published figure could not be rebuilt."
    ]
    for net in nets:
        row = ranked_rows(net).get(claim.method)
        if net.task == claim.task and row is not None and row.results:
            lines += [_measured(net, row, step) for step in row.results[0].checkpoints if step == claim.steps]
    return ["### The paper's energy, rebuilt", " ".join(lines)]


def _measured(net: Section, row: Row, step: int) -> str:
    counts, cost = energy_counts(row.first, step), energy.costs()
    whole = energy.ann(counts, cost)
    return (
        f"Measured here on {md.escape(net.model)} at T = {step}: {100 * energy.paper(counts, cost).total / whole:.1f} %"
        f" (paper's accounting), {100 * energy.strict(counts, cost).total / whole:.0f} % (strict)."
    )
