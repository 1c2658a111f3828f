"""No figure in a table of the documents is older than the records."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.documents import contrast, expense, figure, latency, rendered, replaced, table
from benchmarks.markdown import NONE
from benchmarks.records import read_records, write
from benchmarks.tables import latency_frame, sections
from msat.errors import UserError
from tests.making import with_bits

ROOT = Path(__file__).parents[1]


def test_tables_of_the_documents_are_those_of_the_records():
    stale = [str(file) for file, text in rendered(ROOT).items() if file.read_text(encoding="utf-8") != text]
    assert not stale, "run `python -m benchmarks.documents`"


def test_tables_of_the_results_are_those_of_the_records():
    files = sorted((ROOT / "results").rglob("latency.csv"))
    assert files
    for file in files:
        parts = sections(read_records(file.parent)[0])
        text = pd.concat([latency_frame(part) for part in parts]).to_csv(
            index=False, float_format="%.8g", lineterminator="\n"
        )
        assert text == file.read_text(encoding="utf-8"), f"{file}: run `msat-bench report --results` on its folder"


def test_a_figure_is_the_longest_run_on_most_inputs(tmp_path: Path):
    columns = ["model", "method", "T", "seed", "status", "step", "tested", "correct", "ann_correct"]
    rows = [
        ["net", "msat", 8, 0, "done", 8, 100, 11, 90],
        ["net", "msat", 16, 0, "done", 8, 100, 12, 90],
        ["net", "msat", 16, 1, "done", 8, 100, 14, 90],
        ["net", "msat", 16, 0, "done", 8, 50, 40, 45],
        ["net", "fails", 16, 0, "failed", None, None, None, None],
        ["other", "msat", 16, 0, "done", 8, 200, 100, 150],
    ]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "accuracy.csv", index=False)
    cell = {"at": "net", "method": "msat", "step": 8}
    assert figure(tmp_path, cell, False) == "13.0 ± 1.4"
    assert figure(tmp_path, cell | {"at": "other"}, True) == "50.0 (43.1–56.9)"
    assert figure(tmp_path, cell | {"method": "ANN"}, False) == "90.0"
    assert figure(tmp_path, cell | {"method": "fails"}, False) == NONE
    with pytest.raises(UserError, match="measure it"):
        figure(tmp_path, cell | {"step": 16}, False)


def test_a_difference_is_that_of_compare_and_bold_where_told_apart(tmp_path: Path):
    for name, right in (("msat", 80), ("near", 78), ("far", 40)):
        write(with_bits(name, right, 100), tmp_path / "net" / f"{name}-00000000-T4-s0.json")
    write(with_bits("fewer", 40, 50), tmp_path / "net" / "fewer-00000000-T4-s0.json")
    cell = {"at": "net", "method": "msat", "step": 4}
    assert contrast(tmp_path, cell | {"over": "near"}) == "+2.0 (−1.3 to +5.3)"
    assert contrast(tmp_path, cell | {"over": "far"}) == "**+40.0 (+29.5 to +48.9)**"
    assert contrast(tmp_path, {**cell, "method": "far", "over": "msat"}) == "**−40.0 (−48.9 to −29.5)**"
    assert contrast(tmp_path, cell | {"over": "fewer"}) == contrast(tmp_path, cell | {"over": "absent"}) == NONE


def test_a_latency_is_the_real_step_of_the_longest_run_or_beyond_it(tmp_path: Path):
    columns = ["model", "method", "T", "seed", "status", "settled_1", "real_settled_1"]
    rows = [
        ["net", "dcgs", 8, 0, "done", None, None],
        ["net", "dcgs", 16, 0, "done", 4, 5],
        ["net", "dcgs", 16, 1, "done", 8, 9],
        ["net", "late", 16, 0, "done", None, None],
        ["net", "fails", 16, 0, "failed", None, None],
    ]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "latency.csv", index=False)
    names = ("dcgs", "late", "fails", "absent")
    found = [latency(tmp_path, {"at": "net", "method": name, "within": 1}) for name in names]
    assert found == ["5", ">\u00a016", NONE, NONE]


def test_an_energy_is_the_mean_over_seeds_of_the_longest_run(tmp_path: Path):
    columns = ["model", "method", "T", "seed", "at", "step", "paper_ratio", "strict_neurons_pj", "strict_pj"]
    rows = [
        ["net", "msat", 8, 0, "settled", 8, 9.0, 1.0, 1.0],
        ["net", "msat", 16, 0, "settled", 12, 0.5, 1.0, 4.0],
        ["net", "msat", 16, 1, "settled", 14, 0.7, 1.0, 2.0],
        ["net", "late", 16, 0, "settled", None, None, None, None],
    ]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "energy.csv", index=False)
    cell = {"at": "net", "method": "msat", "place": "settled"}
    assert [expense(tmp_path, cell | {"energy": e}) for e in ("step", "paper_ratio", "neurons")] == [
        "13",
        "0.600",
        "38 %",
    ]
    for missing in ({"method": "late"}, {"place": "T"}):
        with pytest.raises(UserError, match="measure it"):
            expense(tmp_path, cell | missing | {"energy": "step"})
    assert expense(tmp_path, cell | {"method": "absent", "energy": "step"}) == NONE


def test_a_row_or_a_column_without_any_figure_is_a_mistake(tmp_path: Path):
    columns = ["model", "method", "T", "seed", "status", "step", "tested", "correct", "ann_correct"]
    rows = [[net, name, 8, 0, "done", 8, 50, 20, 45] for net, name in (("a", "one"), ("a", "two"), ("b", "one"))]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "accuracy.csv", index=False)
    spec = {"name": "t", "head": "", "rows": [{"method": "one"}, {"method": "two"}]}
    nets = [{"title": net, "at": net, "step": 8} for net in "ab"]
    assert table(tmp_path, spec | {"columns": nets}).endswith("| two | 40 | – |")
    with pytest.raises(UserError, match="table 't' has no figure for 'twoo'; correct the name"):
        table(tmp_path, spec | {"columns": nets, "rows": [{"method": "one"}, {"method": "twoo"}]})
    methods = [{"method": "one"}, {"method": "ones"}]
    with pytest.raises(UserError, match="no figure for 'ones'"):
        table(tmp_path, spec | {"columns": methods, "rows": nets})


def test_a_table_replaces_what_stood_between_its_marks():
    text = "a\n<!-- table: one -->\nold\nlines\n<!-- end of table -->\nb\n<!-- table: two -->\n<!-- end of table -->\n"
    done = replaced(text, "one", "new", Path("x.md"))
    assert done == text.replace("old\nlines", "new")
    with pytest.raises(UserError, match="once"):
        replaced(text, "three", "new", Path("x.md"))
