"""One call of `msat-bench run`: check what was asked for, run the grid of cells, rebuild the tables, say how it ended."""

import inspect
import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

import torch
import typer

from benchmarks.cells import Cell, Options, Setting, grid, label, settings, task_folder
from benchmarks.display import Display
from benchmarks.page import summary
from benchmarks.plugins import Registry, fault
from benchmarks.records import Record, read_records
from benchmarks.report import report_tasks
from benchmarks.runner import code_of, run_setting
from benchmarks.selection import choose_methods
from msat.backends import choose
from msat.errors import UserError


@dataclass
class Tally:
    """How cells ended."""

    mistakes: int = 0
    """Cells or networks that ended with a user's error."""
    crashes: int = 0
    """Cells in which a method raised something else."""
    failed: list[str] = field(default_factory=list)
    tasks: set[str] = field(default_factory=set)
    """Those with a cell that ended."""

    def note(self, cell: Cell, record: Record) -> None:
        """Note a cell's task, and count it if it failed."""
        self.tasks.add(cell.setting.task)
        if record.status == "failed":
            self.crashes += record.traceback is not None
            self.mistakes += record.traceback is None
            self.failed.append(f"{cell.setting.task} {cell.setting.model} {cell.label}: {record.reason}")

    @property
    def code(self) -> int:
        """Exit code: 1 after a crash, 2 if there are user's errors alone, else 0."""
        return 1 if self.crashes else 2 if self.mistakes else 0


def run(options: Options, tasks: str | None, models: str | None, methods: str | None, threads: int | None) -> int:
    """Run what was asked for and return the exit code.

    Raises:
        UserError: what was asked for does not exist; nothing has been run.
    """
    check_machine(options, threads)
    if threads or "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    choices = choose_methods(options.registry, methods)
    plan = [(setting, grid(setting, choices)) for setting in settings(options, tasks, models)]
    writable(options.results)
    tally = Tally()
    try:
        with Display(sum(len(cells) for _, cells in plan)) as display:
            for setting, cells in plan:
                _run_one(setting, cells, display, tally)
    finally:
        _tables(options, [task for task in dict.fromkeys(setting.task for setting, _ in plan) if task in tally.tasks])
    for line in tally.failed:
        typer.echo(f"msat-bench: {line}", err=True)
    return tally.code


def writable(folder: Path) -> None:
    """Make the folder of results; refuse one that cannot be made or written to before any work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"RESULTS={folder} cannot be written to ({error.strerror}); name another folder.") from error


def check_machine(options: Options, threads: int | None) -> None:
    """Refuse an unknown backend or device before any work."""
    if threads is not None and threads < 1:
        raise UserError(f"THREADS must be at least 1, got {threads}; leave it away to use all cores.")
    try:
        torch.empty(0, device=options.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise UserError(f"device '{options.device}' cannot be used ({reason}); use DEVICE=cpu.") from error
    choose(options.backend, options.device)


def _run_one(setting: Setting, cells: Sequence[Cell], display: Display, tally: Tally) -> None:
    """Run the cells of one network; where its data or the network itself is at fault, the other networks still run."""

    def tell(cell: Cell, record: Record, was_there: bool) -> None:
        display.cell(cell, record, was_there)
        tally.note(cell, record)

    try:
        run_setting(setting, cells, tell, display.training)
    except UserError as error:
        tally.mistakes += 1
        tally.failed.append(f"{setting.task} {setting.model}: {error}")
        display.drop(len(cells))
    except (
        Exception
    ) as error:  # a task is foreign code and may raise anything; its fault must not end the other networks
        tally.crashes += 1
        where = inspect.getsourcefile(type(setting.options.registry.task(setting.task)))
        tally.failed.append(f"{setting.task} {setting.model}: {fault(error, Path(where) if where else None)}")
        typer.echo(traceback.format_exc(), err=True)
        display.drop(len(cells))


def outdated(records: Sequence[Record], registry: Registry) -> list[str]:
    """Return the rows whose method, or a rule of it, has changed since they were measured."""
    older = (
        f"{record.cell.model} {label(record.cell.method, record.cell.overrides)}"
        for record in records
        if record.cell.method in registry.methods
        and record.method.source_hash != code_of(registry.methods[record.cell.method], record.cell.parameters)
    )
    return list(dict.fromkeys(older))  # seeds share a row


def _tables(options: Options, tasks: Sequence[str]) -> None:
    if not tasks:
        return
    folders = [folder for task in tasks if (folder := task_folder(options, task)).is_dir()]
    report = report_tasks(options.results, folders)
    for bad in report.broken:
        typer.echo(f"not a record of this version, left out: {bad}", err=True)
    for file in report.written:
        if file.parent in folders:
            records = read_records(file.parent)[0]
            typer.echo(f"\n{summary(records)}\n\nTables: {file}")
            if older := outdated(records, options.registry):
                typer.echo(f"measured with other code than today's: {', '.join(older)}; run these again.", err=True)
        else:
            typer.echo(f"All tasks: {file}")
