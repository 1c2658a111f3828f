"""Ranks and comparisons against numbers worked out by hand."""

import subprocess
from math import comb
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks.board import board, by_kind, mean_ranks, rank_network, shared
from benchmarks.cli import app
from benchmarks.compare import compare
from benchmarks.critical import bars, critical
from benchmarks.leaderboard import board_table, leaderboard
from benchmarks.pairs import bit_rows, difference, holm, mcnemar, only, proportions
from benchmarks.records import Record, pack, write
from benchmarks.tables import sections
from benchmarks.views import VIEWS
from benchmarks.website import website
from msat import energy
from msat.errors import UserError
from tests.making import make_record, many_records, with_bits

LATENCY, STEPS, OPERATIONS = VIEWS


def test_mcnemar_is_the_binomial_test_of_what_only_one_has_right():
    tail = sum(comb(12, k) for k in range(3)) / 2**12
    assert mcnemar(np.array([2.0, 5.0, 0.0]), np.array([10.0, 5.0, 0.0])) == pytest.approx([2 * tail, 1.0, 1.0])


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_counts_of_what_only_one_has_right():
    rows = bit_rows(["8A==", "zA=="], 8)  # 11110000 and 11001100
    assert only(rows, rows).tolist() == [[0, 2], [2, 0]]


def test_a_difference_lies_in_its_interval():
    gap, low, high = difference(30, 10, 100)
    assert gap == 20
    assert (low, high) == pytest.approx((7.907, 31.308), abs=1e-3)


def rows_of(*records: Record):
    (part,) = sections(records)
    return part, list(part.rows)


def test_proportions_by_hand():
    found = proportions(np.array([60.0, 40.0, 0.0, 0.0]), 100)
    assert found[0] == pytest.approx([1.0, 0.007210, 0.0, 0.0], abs=1e-6)
    assert found[2, 3] == 1.0


def test_fixed_operations_are_reached_between_checkpoints():
    record = make_record("a", correct=[1, 4, 7, 8])
    ann = record.ann.model_copy(update={"macs": 102})  # 100 of them in front of the spikes, so 2 for each of 10 inputs
    part, rows = rows_of(record.model_copy(update={"ann": ann}))
    assert part.checkpoints == [1, 2, 4]
    assert OPERATIONS.standing(rows[0], part).text == "70"  # 20 spikes are sent by step 3


def test_methods_that_a_test_cannot_tell_apart_share_a_rank():
    right = {"a": 60, "b": 58, "c": 20}
    part, rows = rows_of(*(with_bits(name, n, 64) for name, n in right.items()))
    found = {standing.row.label: (rank, standing.text) for standing, rank in rank_network(STEPS, rows, part)}
    assert [found[name][0] for name in "abc"] == [1.5, 1.5, 3]
    assert found["c"][1] == "31"


def test_a_failed_cell_ranks_last_and_has_no_number():
    part, rows = rows_of(with_bits("a", 60, 64), make_record("b", status="failed", reason="no", tested=64))
    for view in VIEWS:
        (first, rank), (last, other) = rank_network(view, rows, part)
        assert (first.row.label, rank, last.row.label, other, last.text) == ("a", 1, "b", 2, "–")


def test_a_run_too_short_to_tell_its_place_does_not_rank():
    longer, short = with_bits("a", 20, 64), with_bits("b", 30, 64)
    cell = short.cell.model_copy(update={"steps": 2})
    part, rows = rows_of(longer, short.model_copy(update={"cell": cell, "result": halved(short)}))
    for view in VIEWS:
        assert [(s.row.label, rank) for s, rank in rank_network(view, rows, part)] == [("a", 1)]
    found = board(LATENCY, [part, *nets_of("ab")])
    assert found.ranks["b"][0] == (None, "> 2") and found.size(0) == 1
    assert "too short · > 2" in board_table(found)[2]
    assert found.sets == ()  # they share one method only


def halved(record: Record):
    """Return a record's result cut after its second step."""
    result = record.result
    assert result is not None
    return result.model_copy(
        update={
            "steps": result.steps[:2], "correct": result.correct[:2], "checkpoints": [1, 2], "bits": result.bits[:2],
            "spikes": {kind: counts[:2] for kind, counts in result.spikes.items()}, "real_latency": [1, 2],
        }
    )  # fmt: skip


def test_methods_that_never_settle_rank_by_accuracy_and_are_tested():
    part, rows = rows_of(*(with_bits(name, n, 64) for name, n in {"a": 20, "b": 45, "c": 43}.items()))
    found = [(s.row.label, rank, s.text) for s, rank in rank_network(LATENCY, rows, part)]
    assert found == [("b", 1.5, "> 4"), ("c", 1.5, "> 4"), ("a", 3, "> 4")]


def test_an_answer_that_is_not_out_yet_is_no_answer():
    quick, late = with_bits("a", 60, 64), with_bits("b", 60, 64)
    assert late.result is not None
    late = late.model_copy(update={"result": late.result.model_copy(update={"real_latency": [2, 3, 5]})})
    part, rows = rows_of(quick, late)
    assert [(s.row.label, rank, s.text) for s, rank in rank_network(LATENCY, rows, part)] == [
        ("a", 1, "1"),
        ("b", 2, "2"),
    ]


def test_two_that_do_not_settle_are_tested_at_the_last_step():
    quick, late = with_bits("a", 21, 64), with_bits("b", 20, 64)
    assert late.result is not None
    nothing = [pack(torch.zeros(64, dtype=torch.bool))] * 2 + late.result.bits[2:]
    late = late.model_copy(
        update={"result": late.result.model_copy(update={"real_latency": [2, 3, 5], "bits": nothing})}
    )
    part, rows = rows_of(quick, late)
    assert [(s.row.label, rank) for s, rank in rank_network(LATENCY, rows, part)] == [("a", 1.5), ("b", 1.5)]


def nets_of(*methods: str):
    """Return a network for each text of one-letter methods; of the first n, each next one is less often right."""
    parts = []
    for index, names in enumerate(methods):
        records = [with_bits(name, max(0, 60 - 12 * "abcdefgh".index(name)), 64) for name in names]
        cell = {"task": f"task-{index}"}
        parts += sections([r.model_copy(update={"cell": r.cell.model_copy(update=cell)}) for r in records])
    return parts


def test_sample_and_real_data_stay_apart():
    records = [record for _, record in many_records(40, networks=4)]
    assert list(by_kind(records)) == [("full", "real"), ("sample", "sample")]
    text, diagrams = leaderboard(records)
    assert text.index("## Real data") < text.index("## Sample data")
    assert diagrams == {}  # two tasks only


def test_the_board_says_what_it_rests_on():
    text, _ = leaderboard([make_record()])
    assert "3 clouds; synthetic" in text


def test_mean_ranks_are_only_among_methods_that_share_networks():
    nets = nets_of("abcde", "bcd", "d")
    found = board(STEPS, nets)
    assert [len(net.rows) for net in nets] == [5, 3, 1]
    assert [[net.task for net in means.networks] for means in found.sets] == [["task-0", "task-1"]]
    assert found.sets[0].means == {"b": 1.0, "c": 2.0, "d": 3.0}  # a and e are not counted
    assert [found.ranks["b"][0][0], found.ranks["b"][1][0]] == [2.0, 1.0]  # among all methods of each network
    assert found.order == ["b", "c", "d", "a", "e"]
    table = board_table(found)[2].splitlines()
    assert [cell.strip() for cell in table[0].split("|")[2:-1]] == [
        "mean rank, 2 networks", "task-0 mlp (5)", "task-1 mlp (3)", "task-2 mlp (1)"
    ]  # fmt: skip
    (row,) = [line for line in table if line.startswith("| a ")]
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["–", "1 · 93.8", "not run", "not run"]


def test_of_a_network_measured_twice_the_smaller_part_is_named_and_not_ranked():
    records = [with_bits("a", 60, 64), with_bits("b", 50, 64), with_bits("a", 30, 32)]
    text, _ = leaderboard(records)
    assert "- clouds mlp, 32 test inputs: 1 method\n" in text
    assert text.count("| a ") == len(VIEWS)
    page = website(records, {id(record): "file.json" for record in records}, energy.DEFAULT)
    assert "on the same network: clouds mlp, 32 test inputs: 1 method." in page


def test_all_networks_come_second_where_methods_are_missing():
    sizes = [[len(net.rows) for net in nets] for nets in shared(STEPS, nets_of("abcdefg", "abcdefg", "ab"))]
    assert sizes == [[7, 7], [7, 7, 2]]
    assert shared(STEPS, nets_of("ab")) == []
    assert [len(nets) for nets in shared(STEPS, nets_of("ab", "ab", "ab"))] == [3]


def test_a_tasks_networks_count_once():
    one, two, other = nets_of("ab", "ab", "ab")
    again = [
        r.model_copy(update={"cell": r.cell.model_copy(update={"task": "task-0", "model": "cnn"})})
        for row in two.rows
        for r in row.records
    ]
    means = mean_ranks(STEPS, [one, *sections(again), other])
    assert (means.tasks, means.means) == (2, {"a": 1.0, "b": 2.0})


def test_the_critical_difference_is_nemenyis():
    assert critical(5, 10) == pytest.approx(2.728 * (5 * 6 / 60) ** 0.5, abs=2e-3)  # Demšar 2006, Table 5
    assert bars([1.0, 1.5, 3.0, 3.2], 1.0) == [(0, 1), (2, 3)]


def test_compare_counts_the_same_inputs(tmp_path: Path):
    for name, right in (("a", 60), ("b", 20)):
        write(with_bits(name, right, 64), tmp_path / "sample" / "clouds" / "mlp" / f"{name}.json")
    text = compare("a", "b", tmp_path)
    (line,) = [line.split() for line in text.splitlines() if line.startswith("4 ")]
    assert line[1:3] == ["93.8", "31"]
    assert line[-1] == "A"
    assert line[-5:-3] == ["40", "0"]
    files = [str(tmp_path / "sample" / "clouds" / "mlp" / f"{name}.json") for name in "ab"]
    assert compare(*files, tmp_path) == text
    assert compare(str(tmp_path), str(tmp_path), tmp_path) == (
        "2 pairs, 2 of them with the same answers and events at every checkpoint; only in A: 0, only in B: 0."
    )
    with pytest.raises(UserError, match="unknown method with a done record, folder or commit 'c'"):
        compare("a", "c", tmp_path)


def test_compare_reads_what_the_report_of_its_results_reads(tmp_path: Path):
    for folder, right in (("", 50), ("recipe", 30)):
        for name in ("a", "b"):
            write(with_bits(name, right, 64), tmp_path / folder / "full" / "clouds" / "mlp" / f"{name}.json")
    once = compare("a", "b", tmp_path / "recipe")
    assert once.count("McNemar") == 1 and "  47  " in once
    own = compare("a", "b", tmp_path)
    assert own.count("McNemar") == 1 and "78.1" in own
    assert own == compare("a", "b", tmp_path / "full") != once
    assert compare(str(tmp_path), str(tmp_path / "recipe"), tmp_path).startswith("2 pairs, 0 of them")


def test_compare_says_where_each_wins(tmp_path: Path):
    for folder, right in (("one", {"a": 60, "b": 20, "c": 30}), ("two", {"a": 20, "b": 60})):
        for name, number in right.items():
            write(with_bits(name, number, 64), tmp_path / folder / f"{name}.json")
    text = compare(str(tmp_path / "one"), str(tmp_path / "two"), tmp_path)
    assert (
        "2 pairs, 0 of them with the same answers and events at every checkpoint; only in A: 1, only in B: 0." in text
    )
    assert "A better on 1, B on 1, no difference shown on 0." in text
    assert text.count("test inputs, ANN") == 2
    with pytest.raises(UserError, match="not the same kind"):
        compare(str(tmp_path / "one"), "a", tmp_path)
    other = make_record("a", tested=64, weights="other", correct=[4] * 4)
    write(other, tmp_path / "three" / "a.json")
    assert "ANNs of different weights" in compare(str(tmp_path / "one"), str(tmp_path / "three"), tmp_path)


def test_compare_pairs_cells_at_the_same_steps_where_both_have_them(tmp_path: Path):
    def longer(record: Record, steps: int) -> Record:
        return record.model_copy(update={"cell": record.cell.model_copy(update={"steps": steps})})

    both, short = with_bits("both", 60, 64), with_bits("other", 60, 64)
    for folder, records in {"one": [both, short], "two": [both, longer(both, 8), longer(short, 8)]}.items():
        for number, record in enumerate(records):
            write(record, tmp_path / folder / f"{number}.json")
    text = compare(str(tmp_path / "one"), str(tmp_path / "two"), tmp_path)
    assert (
        text == "2 pairs, 2 of them with the same answers and events at every checkpoint; only in A: 0, only in B: 0."
    )


def test_compare_counts_the_cost_up_to_a_step_that_both_have(tmp_path: Path):
    short = with_bits("a", 60, 64)
    assert short.result
    first = {"steps": [1, 2], "correct": [60, 60], "agree": [60, 60], "checkpoints": [1, 2]}
    events = {kind: counts[:2] for kind, counts in short.result.events.items()}
    first |= {"events": events, "bits": short.result.bits[:2], "real_latency": [1, 2]}
    write(short.model_copy(update={"result": short.result.model_copy(update=first)}), tmp_path / "a.json")
    write(short, tmp_path / "b.json")
    lines = compare(str(tmp_path / "a.json"), str(tmp_path / "b.json"), tmp_path).splitlines()
    a, b = (next(line for line in lines if line.startswith(f"{name}  ")) for name in "AB")
    assert a[1:] == b[1:], "the same record, cut at T = 2"
    assert any(line.startswith("T = 2 ") for line in lines)


def test_compare_settles_in_real_steps(tmp_path: Path):
    record = with_bits("a", 64, 64)
    assert record.result
    late = record.result.model_copy(update={"real_latency": [8, 9, 11]})
    write(record, tmp_path / "a.json")
    write(record.model_copy(update={"result": late}), tmp_path / "b.json")
    lines = compare(str(tmp_path / "a.json"), str(tmp_path / "b.json"), tmp_path).splitlines()
    settled = [line.split()[1] for line in lines if line.startswith(("A  ", "B  "))]
    assert settled == ["1", "8"]


def test_compare_reads_the_records_of_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "results" / "sample" / "clouds" / "mlp"

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x", *arguments], cwd=tmp_path, check=True)

    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message=none")
    for right in (60, 20):
        write(with_bits("a", right, 64), folder / "a.json")
        git("add", ".")
        git("commit", "--quiet", "--message=records")
    write(with_bits("a", 10, 64), tmp_path / "results" / "recipe" / "sample" / "clouds" / "mlp" / "a.json")
    git("add", ".")
    git("commit", "--quiet", "--message=records of another folder")
    text = compare("HEAD~2", "HEAD", Path("results"))
    (line,) = [line.split() for line in text.splitlines() if line.startswith("4 ")]
    assert (line[1:3], line[-1]) == (["93.8", "31"], "A")
    assert compare("HEAD", "results", Path("results")).startswith("1 pairs, 1 of them with the same answers")
    with pytest.raises(UserError, match="'HEAD~3' holds no done record"):
        compare("HEAD~3", "HEAD", Path("results"))
    with pytest.raises(UserError, match="unknown method with a done record, folder or commit 'HEAD~7'"):
        compare("HEAD~7", "HEAD", Path("results"))


def test_a_method_comes_before_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, right in (("a", 60), ("b", 20)):
        write(with_bits(name, right, 64), tmp_path / "results" / "sample" / "clouds" / "mlp" / f"{name}.json")
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "McNemar" in compare("a", "b", Path("results"))


def test_compare_and_costs_on_the_command_line(tmp_path: Path):
    for name, right in (("a", 60), ("b", 20)):
        write(with_bits(name, right, 64), tmp_path / "sample" / "clouds" / "mlp" / f"{name}.json")
    results = ["--results", str(tmp_path)]
    done = CliRunner().invoke(app, ["compare", "a", "b", "--task", "clouds", *results])
    assert (done.exit_code, "McNemar p" in done.output) == (0, True)
    none = CliRunner().invoke(app, ["compare", "a", "b", "--task", "rain", *results])
    assert none.exit_code == 2
    assert CliRunner().invoke(app, ["report", "--costs", "jouppi-7nm", *results]).exit_code == 0
    assert "7 nm" in (tmp_path / "sample" / "clouds" / "README.md").read_text()
    assert "7 nm" in (tmp_path / "index.html").read_text()
    wrong = CliRunner().invoke(app, ["report", "--costs", "jouppi", *results])
    assert wrong.exit_code == 2
    assert "jouppi-7nm" in wrong.output
