"""Operation counts -> energy, under two accountings that always stand side by side: `paper` and `strict`.

`paper` (methods.md A.7): the first synapse layer is real-valued and costs multiply-accumulates once; every later event
is one accumulate per synapse; neurons are free.
`strict` (methods.md 0.1): graded events are multiply-accumulates, counted (burst) events cost one accumulate per spike,
the neurons' own arithmetic counts, and the first layer costs what executing it costs: it is constant, so it runs once,
and its addition to the potential at every step is among the neurons' operations.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from msat.errors import unknown_name

PICO = 1e-12
DEFAULT = "horowitz-45nm"


@dataclass(frozen=True)
class Costs:
    """Energy of one operation, pJ."""

    source: str
    accumulate: float
    multiply_accumulate: float
    addition: float
    multiplication: float
    transcendental: float


@dataclass(frozen=True)
class Counts:
    """Operations behind some inferences; any unit of inferences, the energy is of the same."""

    macs: float
    """Multiply-accumulates of the ANN."""
    first_macs: float
    """Those of the layers that spikes do not reach."""
    events: Mapping[str, float]
    """Events times fan-out by spike kind (N_sop)."""
    spikes: Mapping[str, float]
    """The same, each event weighted by its spike count (N_cnt)."""
    additions: float = 0.0
    """Of the neurons, over all steps."""
    multiplications: float = 0.0
    transcendentals: float = 0.0


@dataclass(frozen=True)
class Energy:
    """Energy in pJ, by where it is spent."""

    first: float
    synapses: float
    neurons: float = 0.0

    @property
    def total(self) -> float:
        return self.first + self.synapses + self.neurons


@lru_cache
def tables() -> dict[str, Costs]:
    """Return the cost tables of energy.toml by name."""
    text = files("msat").joinpath("energy.toml").read_text(encoding="utf-8")
    return {name: Costs(**row) for name, row in tomllib.loads(text).items()}


def costs(name: str = DEFAULT) -> Costs:
    """Return a cost table; an unknown name gets suggestions."""
    if name not in tables():
        raise unknown_name("cost table", name, tables())
    return tables()[name]


def ann(counts: Counts, cost: Costs) -> float:
    """Return the ANN's energy: every product a multiply-accumulate."""
    return cost.multiply_accumulate * counts.macs


def paper(counts: Counts, cost: Costs) -> Energy:
    """Return the energy as papers count it."""
    return Energy(cost.multiply_accumulate * counts.first_macs, cost.accumulate * sum(counts.events.values()))


def strict(counts: Counts, cost: Costs) -> Energy:
    """Return the energy of what is executed."""
    synapses = sum(
        cost.multiply_accumulate * counts.events[kind] if kind == "graded" else cost.accumulate * counts.spikes[kind]
        for kind in counts.events
    )
    neurons = (
        cost.addition * counts.additions
        + cost.multiplication * counts.multiplications
        + cost.transcendental * counts.transcendentals
    )
    return Energy(cost.multiply_accumulate * counts.first_macs, synapses, neurons)


def paper_ratio(
    ops: Sequence[float],
    rates: Sequence[float],
    steps: int,
    first: Literal["once", "each-step"] = "once",
    cost: Costs | None = None,
) -> float:
    """Return SNN energy / ANN energy from firing rates, E = (AC T sum_{l>=2} ops_l r_{l-1} + MAC ops_1) / (MAC sum ops).

    Args:
        ops: multiply-accumulates of each synapse layer.
        rates: spikes per neuron and step of each spiking layer; one fewer than `ops`.
        steps: T.
        first: whether the first layer is charged once or at every step (methods.md 0.1 has both).
        cost: cost table, the default one for None.
    """
    cost = cost or costs()
    later = sum(count * rate for count, rate in zip(ops[1:], rates, strict=True))
    runs = 1 if first == "once" else steps
    spent = cost.accumulate * steps * later + cost.multiply_accumulate * ops[0] * runs
    return spent / (cost.multiply_accumulate * sum(ops))
