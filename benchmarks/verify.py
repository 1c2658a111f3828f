"""Measures a record's cell again, on the spot, and compares every count."""

from dataclasses import replace
from pathlib import Path

from benchmarks.cells import Cell, Options, Setting, as_profile
from benchmarks.differences import differences
from benchmarks.records import Record, read_record
from benchmarks.runner import run_cell
from msat.errors import UserError


def verify(file: Path, data: Path | None, device: str, plugins: tuple[str, ...]) -> list[str]:
    """Return a sentence for every field that came out differently; none if all counts are equal.

    Raises:
        UserError: there is no done record, or the data or weights at hand are not the record's.
    """
    record = read_record(file)
    if record is None or record.result is None:
        raise UserError(f"{file} is not a done record of this version; run its cell with `msat-bench run`.")
    fresh = _again(record, cell_of(record, data, device, plugins))
    for name, there, here in (
        ("data", record.data.fingerprint, fresh.data.fingerprint),
        ("weights", record.ann.weights, fresh.ann.weights),
        ("constants of MSAT", record.cell.adaptive, fresh.cell.adaptive),
    ):
        if there != here:
            raise UserError(f"the {name} at hand ({here}) are not those of {file} ({there}); get those to verify it.")
    if fresh.result is None:
        return [f"the cell {fresh.status}: {fresh.reason}"]
    old, new = (result.model_dump(exclude={"traces"}) for result in (record.result, fresh.result))
    return list(differences("result", old, new))


def _again(record: Record, cell: Cell) -> Record:
    """Measure a cell with the LIMITs that it was measured with, one after another: batches decide how sums are rounded."""
    fresh, tested, options = None, 0, cell.setting.options
    for part in record.earlier:
        tested += part.tested
        setting = replace(cell.setting, options=replace(options, limit=tested))
        fresh = run_cell(replace(cell, setting=setting), stored=fresh)
    return run_cell(cell, stored=fresh)


def cell_of(record: Record, data: Path | None, device: str, plugins: tuple[str, ...]) -> Cell:
    """Return the cell that a record measures."""
    fields, recipe = record.cell, record.ann.recipe
    options = Options(
        profile=as_profile(fields.profile), data=data, device=device, backend=record.run.backend, limit=record.inputs.limit,
        calibration=record.inputs.calibration_asked, base_seed=fields.base_seed, plugins=plugins,
    )  # fmt: skip
    setting = Setting(fields.task, fields.model, options)
    if recipe and recipe["epochs"] != setting.resolve()[1].recipe.epochs:
        setting = replace(setting, options=replace(options, epochs=recipe["epochs"]))
    # All parameters: a default may have changed since.
    return Cell(setting, fields.method, tuple(sorted(fields.parameters.items())), fields.steps, fields.seed)
