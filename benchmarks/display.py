"""What a run says while it works: one line for each cell, and, on a terminal, a bar with an estimate."""

import sys
import time
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from benchmarks.cells import Cell
from benchmarks.records import Record
from msat.training import Progress as Training

PLAIN_SECONDS = 10.0
"""Without a terminal, training says so little that a long one still fits a log."""


class Display:
    """Tells of cells as they end.

    Args:
        total: cells of the run.
        stream: where to write; a bar is drawn only if it is a terminal.
    """

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self.console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
        self.total = total
        self.done = 0
        self.measured = 0
        self.started = self.told = time.monotonic()
        self.bar = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=self.console, transient=True, disable=not self.console.is_terminal,
        )  # fmt: skip
        self.job = self.bar.add_task("preparing", total=total)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        """Write one line above the bar."""
        self.console.print(text, markup=False)

    def training(self, progress: Training) -> None:
        """Show how far the training of a network is."""
        text = (
            f"training: epoch {progress.epoch} of {progress.epochs}, loss {progress.loss:.3f},"
            f" {100 * progress.accuracy:.1f} % right, {progress.seconds_left:.0f} s left"
        )
        if self.console.is_terminal:
            self.bar.update(self.job, description=text)
        elif time.monotonic() - self.told > PLAIN_SECONDS:
            self.told = time.monotonic()
            self.say(text)

    def cell(self, cell: Cell, record: Record, was_there: bool) -> None:
        """Tell how one cell ended."""
        self.done += 1
        self.measured += not was_there
        where = f"{cell.setting.task} {cell.setting.model}"
        self.bar.update(self.job, completed=self.done, description=where)
        repeat = f" seed {cell.repetition}" if cell.repetition else ""
        self.say(
            f"[{self.done}/{self.total}] {where} {cell.label}{repeat}: {_outcome(record, was_there)}{self._left()}"
        )

    def drop(self, cells: int) -> None:
        """Count out cells that will not run."""
        self.total -= cells
        self.bar.update(self.job, total=self.total)

    def _left(self) -> str:
        left = self.total - self.done
        if self.console.is_terminal or not left or not self.measured:
            return ""
        return f", about {left * (time.monotonic() - self.started) / self.measured:.0f} s left"


def _outcome(record: Record, was_there: bool) -> str:
    if record.result is None:
        return f"{record.status}: {record.reason}"
    share = 100 / record.inputs.tested
    right, ann = record.result.correct[-1] * share, record.ann.correct * share
    spent = (
        f"already measured on {record.inputs.tested:,} inputs"
        if was_there
        else f"{sum(v for k, v in record.run.seconds.items() if k != 'prepare'):.1f} s"
    )
    return f"{right:.2f} % at T = {record.cell.steps} (ANN {ann:.2f} %), {spent}"
