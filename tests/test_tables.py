"""Tables are functions of records: the same bytes each time, nothing for a cell that failed, foreign text escaped."""

from pathlib import Path

import pytest

from benchmarks.costs import energy_frame
from benchmarks.energies import accounting, energies, formula
from benchmarks.markdown import escape, microjoules, number, percent, steps
from benchmarks.page import page, summary
from benchmarks.paper import paper
from benchmarks.plots import colour
from benchmarks.published import beside
from benchmarks.records import PublishedFields, Record, Result, write
from benchmarks.report import report_all, write_task
from benchmarks.tables import headings, sections, site_numbers, sites
from msat import energy
from tests.making import make_record as make


def test_the_same_records_give_the_same_bytes(tmp_path: Path):
    for folder, order in (("a", [0, 1, 2]), ("b", [2, 0, 1])):
        for seed in order:
            write(make(seed=seed, stochastic=True), tmp_path / folder / "sample" / "clouds" / "mlp" / f"x-s{seed}.json")
        report_all(tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "a" / "sample" / "clouds").glob("*.*"))
    assert names == [
        "README.md",
        "accuracy.csv",
        "energy.csv",
        "latency.csv",
        "mlp-accuracy.svg",
        "mlp-error.svg",
        "mlp-sin.svg",
        "sites.csv",
    ]
    for name in names:
        a, b = ((tmp_path / f / "sample" / "clouds" / name).read_bytes() for f in "ab")
        assert a == b
        assert len(a) > 50


def test_sections_of_one_network_are_called_by_what_differs():
    def measured(epochs: int = 2, calibration: int = 512, weights: str = "abc", tested: int = 10) -> Record:
        record = make(weights=weights, tested=tested)
        ann = record.ann.model_copy(update={"recipe": {"epochs": epochs}})
        inputs = record.inputs.model_copy(update={"calibration_asked": calibration})
        return record.model_copy(update={"ann": ann, "inputs": inputs})

    def called(*records: Record) -> list[str]:
        assert summary(records).count("test inputs") == len(records)
        return headings(sections(records))

    assert called(measured()) == ["mlp"]
    assert called(measured(), measured(epochs=9, weights="d")) == ["mlp, trained 2 epochs", "mlp, trained 9 epochs"]
    assert called(measured(), measured(weights="d")) == ["mlp, weights abc", "mlp, weights d"]
    assert called(measured(), measured(tested=9)) == ["mlp, 9 test inputs", "mlp, 10 test inputs"]
    assert called(measured(), measured(calibration=64)) == [
        "mlp, 64 calibration inputs asked for", "mlp, 512 calibration inputs asked for"
    ]  # fmt: skip
    three = called(measured(), measured(weights="d"), measured(tested=9))
    assert three == [
        "mlp, 9 test inputs, weights abc",
        "mlp, 10 test inputs, weights abc",
        "mlp, 10 test inputs, weights d",
    ]


def test_a_failed_cell_is_never_a_number():
    text = page(sections([make(), make(method="broken", status="failed", reason="one by | zero")]))
    (line,) = [line for line in text.splitlines() if line.startswith("| broken") and "one by" in line]
    cells = [cell.strip() for cell in line.replace(r"\|", "").strip("|").split("|")]
    assert cells[1] == "**failed: one by  zero**"
    assert set(cells[2:]) == {"–"}
    rest = [other for other in text.splitlines() if other.startswith("| broken") and other != line]
    assert len(rest) == 2
    assert not any(char.isdigit() for other in rest for char in other)


def test_steps_that_are_several_real_ones_are_named():
    record = make(method="slow")
    assert record.result is not None
    reached = record.result.checkpoints
    slow, late = (
        make(method=name).model_copy(update={"result": record.result.model_copy(update={"real_latency": real})})
        for name, real in (("slow", [19 * t for t in reached]), ("late", [t + 8 for t in reached]))
    )
    text = page(sections([make(), slow, late]))
    assert text.count("real steps each") == text.count("| slow (19 real steps each)") == 1


def test_one_failed_seed_takes_the_whole_row():
    (part,) = sections([make(seed=0), make(seed=1, status="skipped", reason="no")])
    assert part.rows[0].results == []
    assert part.rows[0].fault == "skipped: no"


def test_records_of_different_inputs_or_weights_stand_apart():
    apart = sections([make(), make(method="b", weights="other"), make(method="c", tested=5)])
    assert [len(part.rows) for part in apart] == [1, 1, 1]


def test_rows_of_other_devices_are_named():
    one, other = make(), make(method="b")
    elsewhere = other.model_copy(update={"run": other.run.model_copy(update={"device": "cuda", "backend": "step"})})
    (part,) = sections([one, make(method="c"), elsewhere])
    assert "- Device: cpu, folded; cuda, step: b\n" in page([part])


def test_rows_come_by_settled_latency():
    slow = make(method="a-slow", correct=[0, 0, 0, 8])
    quick = make(method="z-quick", correct=[8, 8, 8, 8])
    never = make(method="b-never", correct=[8, 8, 8, 0])
    (part,) = sections([never, slow, quick])
    assert [row.label for row in part.rows] == ["z-quick", "a-slow", "b-never"]


def test_published_rows_are_marked():
    text = page(sections([make(profile="full")]))
    assert "never ranked" in text
    assert "not among ours" in text
    assert "| A \\[paper\\] " in text


def test_several_T_of_one_method_have_names_of_their_own():
    record = make()
    longer = record.model_copy(update={"cell": record.cell.model_copy(update={"steps": 8})})
    (part,) = sections([record, longer, make("other")])
    assert sorted(map(part.name, part.rows)) == ["msat (T = 4)", "msat (T = 8)", "other"]


def test_a_published_row_stands_beside_ours_at_its_T():
    record = make(profile="full")
    known = [
        PublishedFields(method="MSAT", ann=90.0, snn=89.0, steps=3, source="there"),
        PublishedFields(method="TSC", ann=None, snn=88.0, steps=None, source="there"),
    ]
    record = record.model_copy(update={"task": record.task.model_copy(update={"published": known})})
    (part,) = sections([record])
    assert beside(part) == [
        ("MSAT", "90", "89", "3", "there", "msat", "80 (49–94)", "70 (40–89)", "3"),
        ("TSC", "–", "88", "–", "there", "tsc: not run", "–", "–", "–"),
    ]


def test_the_paper_s_formula_takes_our_rates():
    claim, record = paper().energy, make(tested=10)
    assert record.result is not None
    site, readout = record.result.populations
    rates = [0.01 * number for number in range(1, 14)]
    chain = [site.model_copy(update={"neurons": 1000, "spikes": [0, 0, round(40_000 * rate)]}) for rate in rates]
    result = record.result.model_copy(update={"populations": [*chain, readout]})
    assert formula(record.model_copy(update={"result": result}), 4) == pytest.approx(
        energy.paper_ratio(claim.operations, rates, 4)
    )


def test_the_table_of_energies_says_what_the_ann_costs_and_what_counts():
    (dense,) = energies(sections([make()])[0], energy.costs())[2:]
    assert f"Energy of the ANN: {microjoules(120 * 4.6)} µJ. Paper:" in dense
    record = make()
    skipping = record.model_copy(update={"ann": record.ann.model_copy(update={"active_macs": 90.0})})
    older = make("older", correct=[8, 8, 8, 8])  # settles first, and was measured before zeros were counted
    (text,) = energies(sections([skipping, older])[0], energy.costs())[2:]
    assert f"if it skipped zeros, as a spiking network does, {microjoules(90 * 4.6)} µJ, 0.75 of that." in text
    assert accounting(energy.costs()).split("(")[0] in text
    known = energy_frame(sections([skipping, older])[0])["ann_active_macs"]
    assert known.dtype == float
    assert known.dropna().unique().tolist() == [90.0]
    assert known.isna().sum() == 2


def test_sin_and_energy_by_hand():
    record = make()
    result = record.result
    assert isinstance(result, Result)
    numbers = site_numbers(sites(result)[0], 2)
    assert numbers == pytest.approx({"sin_ratio": 0.2, "ans": 1.5, "confidence": 0.75, "relative_error": 0.02})
    frame = energy_frame(sections([record])[0])
    at_end = frame[frame["at"] == "T"].iloc[0]
    # 40 events for 10 inputs, 100 + 20 multiply-accumulates of which 100 come first; 4 steps of 5 neurons, 3 additions.
    assert at_end["paper_pj"] == pytest.approx(4.6 * 100 + 0.9 * 4)
    assert at_end["strict_pj"] == pytest.approx(4.6 * 100 + 0.9 * 4 + 0.9 * 4 * 5 * 3)
    assert at_end["ann_pj"] == pytest.approx(4.6 * 120)


def test_a_folder_without_records_gives_no_page(tmp_path: Path):
    assert write_task(tmp_path, []) == []


def test_texts():
    assert escape("a|b <i>*x*\n`y` & [z](http://a)") == r"a\|b &lt;i&gt;\*x\* \`y\` &amp; \[z\](http://a)"
    assert percent([91], 100) == "91.0 (83.8–95.2)"
    assert percent([90, 92, 94], 100) == "92.0 ± 2.0"
    assert [steps([4]), steps([4, 8]), steps([4, None]), steps([])] == ["4", "6 (4–8)", "–", "–"]
    assert [number(0), number(12.345), number(12345), number(3.2e-5)] == ["0", "12.3", "12.3 k", "3.20e-05"]
    assert [number(999.6), number(110, 2), number(1e5, 1), number(0.47)] == ["1.00 k", "110", "100 k", "0.470"]


def test_no_two_of_many_curves_look_the_same():
    looks = [tuple(colour(index).values()) for index in range(32)]
    assert len(set(looks)) == 32
