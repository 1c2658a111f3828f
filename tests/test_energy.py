"""The two energy accountings against numbers worked out by hand and the paper's released rates."""

import pytest

from msat.adaptive import AdaptiveThreshold
from msat.energy import Counts, ann, costs, paper, paper_ratio, strict, tables
from msat.errors import UserError
from msat.multithreshold import HybridMultiThreshold, MultiThreshold
from msat.neurons import Burst, IntegrateAndFire, Neuron, Operations
from msat.signed import SignedIntegrateAndFire

# Released rates and layer sizes of the authors' CIFAR-100 VGG16 at T = 64 (methods.md A.7).
RATES = [0.0970, 0.0960, 0.0681, 0.0817, 0.0811, 0.0518, 0.0503, 0.0249, 0.0172, 0.0102, 0.0289, 0.0269, 0.1273]
OPS = [1769472, 37748736, 18874368, 37748736, 18874368, 37748736, 37748736, 18874368, 37748736, 37748736,
       9437184, 9437184, 9437184, 51200]  # fmt: skip


@pytest.mark.parametrize(("first", "ratio"), [("once", 0.352795), ("each-step", 1.209938)])
def test_the_papers_ratio_by_hand(first, ratio):
    assert paper_ratio([10, 20, 5], [0.1, 0.2], 4, first) == pytest.approx(ratio, abs=1e-6)


def test_the_paper_s_43_percent_is_71_6_by_its_own_formula():
    assert paper_ratio(OPS, RATES, 64) == pytest.approx(0.716, abs=5e-4)
    assert paper_ratio(OPS, RATES, 64, "each-step") == pytest.approx(1.072, abs=5e-4)


def test_counts_give_what_the_formula_gives():
    events = 4 * (20 * 0.1 + 5 * 0.2)
    counts = Counts(macs=35, first_macs=10, events={"binary": events}, spikes={"binary": events})
    assert paper(counts, costs()).total / ann(counts, costs()) == pytest.approx(0.352795, abs=1e-6)


def test_strict_charges_graded_events_bursts_and_neurons():
    counts = Counts(
        macs=100, first_macs=10, events={"graded": 5, "count": 4, "signed": 3}, spikes={"graded": 5, "count": 9, "signed": 3},
        additions=7, multiplications=2, transcendentals=1,
    )  # fmt: skip
    found = strict(counts, costs())
    assert found.first == pytest.approx(46.0)
    assert found.synapses == pytest.approx(4.6 * 5 + 0.9 * 9 + 0.9 * 3)
    assert found.neurons == pytest.approx(0.9 * 7 + 3.7 * 2 + 36.8)
    assert paper(counts, costs()).total == pytest.approx(46.0 + 0.9 * 12)


def test_every_cost_table_names_its_source():
    assert all(table.source for table in tables().values())
    with pytest.raises(UserError, match=r"unknown cost table 'horowitz'.*did you mean horowitz-45nm"):
        costs("horowitz")


@pytest.mark.parametrize(
    ("neuron", "operations"),
    [
        (IntegrateAndFire(), (3, 0, 0)),
        (Burst(cap=1), (3, 0, 0)),
        (Burst(cap=5), (5, 2, 0)),
        (SignedIntegrateAndFire(), (6, 0, 0)),
        (SignedIntegrateAndFire(cap=4, gated=False), (5, 2, 0)),
        (MultiThreshold(members=4), (15, 0, 0)),
        (HybridMultiThreshold(members=4), (9, 0, 0)),
        (AdaptiveThreshold(dtt=False, det=False), (3, 0, 0)),
        (AdaptiveThreshold(dtt=False), (3, 3, 2)),
        (AdaptiveThreshold(dtt=False, det_input="dm"), (4, 3, 2)),
        (AdaptiveThreshold(det=False), (9, 6, 3)),
        (AdaptiveThreshold(), (10, 8, 4)),
    ],
    ids=str,
)
def test_operations_of_a_step_counted_in_the_equations(neuron: Neuron, operations: tuple[int, int, int]):
    """Divisions by a threshold are multiplications; what selects or shifts is free."""
    assert neuron.operations == Operations(*operations)
