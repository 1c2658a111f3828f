"""Operations and energy as Markdown: the table of one network, and the paper's energy ratio rebuilt."""

from collections.abc import Mapping, Sequence

from benchmarks import markdown as md
from benchmarks.costs import energy_counts, energy_means
from benchmarks.paper import paper
from benchmarks.records import Record
from benchmarks.tables import ENERGY_EPSILON, Row, Section, ranked_rows, sites
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
        f" {ENERGY_EPSILON:g} point. {_ann(part, cost)} {md.escape(accounting(cost))}"
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


def _ann(part: Section, cost: energy.Costs) -> str:
    """Return the ANN's energy as a sentence: of every product, and of those alone whose input is not zero."""
    macs = part.first.ann.macs
    dense = f"Energy of the ANN: {md.microjoules(cost.multiply_accumulate * macs)} µJ"
    known = (record.ann.active_macs for row in part.rows for record in row.records)
    active = next((value for value in known if value is not None), None)
    if active is None:
        return f"{dense}."
    return (
        f"{dense}; if it skipped zeros, as a spiking network does, {md.microjoules(cost.multiply_accumulate * active)}"
        f" µJ, {active / macs:.2f} of that."
    )


def accounting(cost: energy.Costs) -> str:
    """Return what the two accountings count, as every table of energies says it."""
    return (
        "Paper: every event an accumulate, the layers that spikes do not reach multiply-accumulates once. Strict: graded events are"
        " multiply-accumulates, events of several spikes count each, the neurons' own operations count; a signed event, or one of a power of two"
        " of its layer's threshold, is an accumulate, for a shift is free; what a pool of signed or several-bit spikes sends is taken as graded."
        " In both, what lies before the spikes (the first layer; with a recurrent front the whole front), whose input is constant,"
        " is computed once; a first pass (SRP, COS) counts from step 1 on. The ANN it is divided by computes every product of its weights,"
        " those with zeros too; products with padding around a map are left out on both sides, and nothing else of the ANN or of a recurrent front counts."
        f" AC {cost.accumulate:g} pJ, MAC {cost.multiply_accumulate:g} pJ ({cost.source});"
        f" an exponential, logarithm, sigmoid or division of a neuron is taken as {cost.transcendental:g} pJ. Arithmetic alone: memory,"
        " state and event-queue accesses, static energy and the buffers of methods that are not causal count nowhere."
    )


def rebuilt_energy(nets: Sequence[Section]) -> list[str]:
    """Return the paper's energy ratio, what its formula gives from the released rates and from ours, and what was counted."""
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
        if row is not None and row.results and paper_network(net):
            lines += [_measured(net, row, step) for step in row.results[0].checkpoints if step == claim.steps]
    return ["### The paper's energy, rebuilt", " ".join(lines)]


def paper_network(net: Section) -> bool:
    """Return whether a network has the layers of the one whose energy the paper claims, if for other classes."""
    claim, result = paper().energy, net.first.result
    return net.model == claim.model and result is not None and len(sites(result)) == len(claim.rates)


def _measured(net: Section, row: Row, step: int) -> str:
    counts, cost = energy_counts(row.first, step), energy.costs()
    whole = energy.ann(counts, cost)
    return (
        f"Measured here on {md.escape(net.task)} {md.escape(net.model)} at T = {step}: {100 * formula(row.first, step):.1f} % by that formula with our rates,"
        f" {100 * energy.paper(counts, cost).total / whole:.1f} % of our ANN's with the events that were counted (paper's accounting; behind"
        f" max-pools they are more, and products with padding are left out), {100 * energy.strict(counts, cost).total / whole:.0f} % (strict)."
    )


def formula(record: Record, step: int) -> float:
    """Return SNN / ANN energy by the paper's formula and layers, from our spikes per neuron and step at a checkpoint."""
    result = record.result
    assert result is not None
    at, runs = result.checkpoints.index(step), step * record.inputs.tested
    rates = [site.spikes[at] / (site.neurons * runs) for site in sites(result)]
    return energy.paper_ratio(paper().energy.operations, rates, step)
