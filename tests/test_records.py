"""Records: whole or not at all, results only where a cell is done, statistics against known values."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from benchmarks.bench import stratified
from benchmarks.provenance import _code
from benchmarks.records import Part, Record, pack, read_record, read_records, unpack, write
from benchmarks.statistics import decimals, first_reach, settled, wilson
from tests.making import make_record


@pytest.fixture
def record() -> Record:
    return make_record()


def test_every_field_carries_a_sentence():
    groups = [kind for kind in Part.__subclasses__() if kind is not Record]
    missing = [
        f"{kind.__name__}.{name}" for kind in groups for name, f in kind.model_fields.items() if not f.description
    ]
    assert not missing


def test_a_record_comes_back_as_it_was(record: Record, tmp_path: Path):
    write(record, tmp_path / "deep" / "a.json")
    assert read_record(tmp_path / "deep" / "a.json") == record
    assert list((tmp_path / "deep").iterdir()) == [tmp_path / "deep" / "a.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema_version": 1}', b"\xff\xfe"])
def test_broken_files_are_reported_not_fatal(record: Record, tmp_path: Path, content: bytes):
    write(record, tmp_path / "good.json")
    (tmp_path / "bad.json").write_bytes(content)
    records, broken = read_records(tmp_path)
    assert (records, broken) == ([record], [tmp_path / "bad.json"])


def test_another_version_is_not_read(record: Record, tmp_path: Path):
    (tmp_path / "old.json").write_text(json.dumps(record.model_dump(mode="json") | {"schema_version": 0}))
    assert read_records(tmp_path) == ([], [tmp_path / "old.json"])


def test_only_a_done_cell_has_a_result(record: Record):
    for change in ({"status": "failed"}, {"result": None}):
        with pytest.raises(ValidationError, match="if and only if"):
            Record.model_validate(record.model_dump() | change)


def test_bits_survive_packing():
    bits = torch.rand(77, generator=torch.Generator().manual_seed(0)) > 0.5
    assert unpack(pack(bits), 77) == bits.tolist()


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    # Newcombe 1998, Stat. Med. 17:857, Table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_against_newcombe(right: int, total: int, low: float, high: float):
    assert wilson(right, total) == pytest.approx((low, high), abs=5e-5)


def test_settled_is_not_first_reach():
    steps, correct = [1, 2, 3, 4, 5, 6], [1, 9, 5, 9, 8, 9]
    assert first_reach(steps, correct, 8) == 2
    assert settled(steps, correct, 8) == 4
    assert settled(steps, correct, 9) == 6
    assert settled(steps, correct, 10) is None


def test_digits_follow_the_interval():
    assert [decimals(40, 75), decimals(90, 94), decimals(95.1, 95.3)] == [0, 1, 2]


def test_a_limit_is_stratified_and_nested():
    labels = torch.arange(100) % 4
    few, more = stratified(labels, 20), stratified(labels, 40)
    assert torch.bincount(labels[few]).tolist() == [5, 5, 5, 5]
    assert set(few.tolist()) < set(more.tolist())
    assert stratified(labels, None).tolist() == stratified(labels, 1000).tolist() == list(range(100))


SOURCE = '''"""What it is."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """A rule."""

    k: float = 1.0

    def threshold(self, site, *rest, **named):
        """Say so."""
        return [self.k * x for x in site if x > 0] or f"{rest!r}"  # why


def empty(): ...
'''


def test_a_source_has_one_hash_under_every_version_of_python(tmp_path: Path) -> None:
    """Printed by Python 3.11; 3.12 and 3.13 write their syntax trees otherwise."""
    file = tmp_path / "rule.py"
    file.write_text(SOURCE)
    code = _code(file)
    assert sha256(code.encode()).hexdigest()[:16] == "2460a9562ff25a18"
    file.write_text(SOURCE.replace("A rule.", "Another text.").replace("# why", "# because"))
    _code.cache_clear()
    assert _code(file) == code
    file.write_text(SOURCE.replace("1.0", "2.0"))
    _code.cache_clear()
    assert _code(file) != code
