"""Ranks and comparisons against numbers worked out by hand."""

from math import comb
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.board import VIEWS, board, by_kind, comparable, networks, rank_network
from benchmarks.cli import app
from benchmarks.compare import compare
from benchmarks.critical import bars, critical
from benchmarks.leaderboard import leaderboard
from benchmarks.pairs import bit_rows, difference, holm, mcnemar, only
from benchmarks.records import Record, write
from benchmarks.tables import sections
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


def test_only_methods_of_every_network_rank_and_sample_stays_apart():
    records = [record for _, record in many_records(40, networks=4)]
    kinds = by_kind(records)
    assert list(kinds) == [("full", "real"), ("sample", "sample")]
    nets = networks(sections([r for r in kinds["full", "real"] if r.cell.task == "task-0"]))
    nets += networks(
        sections([r for r in kinds["full", "real"] if r.cell.task == "task-1" and r.cell.method != "msat"])
    )
    assert "msat" not in board(LATENCY, comparable(nets)).means
    text, diagrams = leaderboard(records)
    assert text.index("## Real data") < text.index("## Sample data")
    assert diagrams == {}  # two tasks only


def test_a_network_with_few_methods_does_not_empty_the_board():
    records = [record for _, record in many_records(20, networks=2)]
    lonely = many_records(1, networks=1, seed=1)
    many, few = networks(sections(records[::2])), networks(sections([r for _, r in lonely]))
    assert comparable([*many, *few]) == many


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
    assert "63" not in compare(str(tmp_path), str(tmp_path), tmp_path).split("A - B")[1].split("\n")[2]
    with pytest.raises(UserError, match="unknown method with a done record 'c'"):
        compare("a", "c", tmp_path)


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
