"""Runs cells: one at a time, each ending done, skipped or failed, each leaving a record that a later run can rely on."""

import inspect
import logging
import platform
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import provenance
from benchmarks.bench import CALIBRATION_RULE, Bench, load_data, open_bench, recipe_fields
from benchmarks.cells import Cell, Setting, digest
from benchmarks.conformance import method_fault
from benchmarks.measure import DIAGNOSED, Stopwatch, measure
from benchmarks.memory import peak_memory
from benchmarks.plugins import fault
from benchmarks.records import (
    SCHEMA,
    AnnFields,
    CellFields,
    DataFields,
    EarlierRun,
    InputFields,
    MethodFields,
    PublishedFields,
    Record,
    Result,
    RunFields,
    Status,
    TaskFields,
    pack,
    read_record,
    write,
)
from benchmarks.widening import joined, same_conversion
from msat.backends import choose
from msat.errors import Skip, UserError
from msat.method import Axes, Method, MethodFactory
from msat.training import Report

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a cell ended."""

    status: Status
    reason: str = ""
    traceback: str | None = None
    method: Method | None = None
    """None where the method could not even be built."""
    result: Result | None = None
    earlier: Sequence[EarlierRun] = ()
    """Runs whose counts the result holds beside its own."""


def run_cell(cell: Cell, report: Report | None = None, stored: Record | None = None) -> Record:
    """Measure one cell, which can be sent to another process; the record depends on nothing but the arguments.

    Args:
        cell: what to measure.
        report: hears of the network's training.
        stored: the cell's record with a smaller LIMIT; only the other inputs are simulated if it converts as it did then.

    Raises:
        UserError: the data, the checkpoint or the network cannot be used, whatever the method.
    """
    bench = open_bench(cell.setting, report)
    _ = bench.trace_error
    watch = Stopwatch()
    watch.seconds["prepare"] = bench.seconds
    return _record(cell, bench, _outcome(cell, bench, stored, watch), watch)


def _outcome(cell: Cell, bench: Bench, stored: Record | None, watch: Stopwatch) -> Outcome:
    method, source = None, None
    try:
        factory = cell.setting.options.registry.method(cell.method)
        source = Path(inspect.getsourcefile(factory.build) or "")
        built = factory(**dict(cell.overrides))
        if not isinstance(built.axes, Axes):
            raise UserError(f"method '{cell.method}' in {source} gives {type(built.axes).__name__}; return Axes(...).")
        # The tests have tried what lies in baselines/ as it stands.
        if cell.overrides or not factory.build.__module__.startswith("baselines."):
            with watch.phase("check"):
                _refuse_unsound(factory, cell.overrides, source)
        method = built
        result, earlier = _counted(cell, bench, method, stored, watch)
        return Outcome("done", method=method, result=result, earlier=earlier)
    except Skip as skip:
        return Outcome("skipped", str(skip), method=method)
    except UserError as error:
        return Outcome("failed", str(error), method=method)
    except Exception as error:
        # A method is foreign code and may raise anything; its fault must not end the other cells.
        return Outcome("failed", fault(error, source), traceback.format_exc(), method)


@lru_cache
def _refuse_unsound(factory: MethodFactory, overrides: tuple[tuple[str, Any], ...], source: Path) -> None:
    """Refuse a method whose figures would mean nothing; one that raises on the tiny network may still fit the real one."""
    try:
        found = method_fault(lambda: factory(**dict(overrides)))
    except Exception as error:  # foreign code may raise anything
        log.warning("%s was not checked, on the tiny network it raises %s", factory.name, fault(error, source))
        return
    if found:
        raise UserError(f"{source}: {found}")


def _counted(
    cell: Cell, bench: Bench, method: Method, stored: Record | None, watch: Stopwatch
) -> tuple[Result, Sequence[EarlierRun]]:
    """Return the result over all inputs, and the runs that had counted some of them for the stored record."""

    def count(numbers: Tensor) -> Result:
        return measure(bench, method, cell.steps, bench.seed(cell.method, cell.repetition), numbers, watch)

    if stored and stored.result:
        known = bench.first(stored.inputs.tested)
        # The ANN's answers cost little and show whether inputs and network are what they were.
        if stored.ann.bits == pack(bench.right[known]):
            new = bench.indices[~torch.isin(bench.indices, known)]
            added = count(new)
            if same_conversion(stored.result, added):
                last = EarlierRun(tested=len(known) - sum(part.tested for part in stored.earlier), run=stored.run)
                return joined(stored.result, added, (known, new)), [*stored.earlier, last]
    return count(bench.indices), ()


def stored_record(cell: Cell, bench: Bench) -> Record | None:
    """Return the record of a cell if it is done and, on as many inputs as it has, would come out the same today."""
    record = read_record(cell.file)
    if record is None or record.status != "done":
        return None
    return record if record.identity == identity(cell, bench, record.inputs.tested) else None


def identity(cell: Cell, bench: Bench, tested: int) -> str:
    """Return a hash of all that determines a cell's result over the first `tested` inputs of the selection."""
    options = cell.setting.options
    return digest(
        [
            SCHEMA, options.profile, cell.setting.task, cell.setting.model, cell.method, cell.parameters,
            asdict(bench.spec.adaptive), cell.steps, cell.repetition, options.base_seed, bench.fingerprint,
            bench.info.weights, _source_hash(cell), tested, options.calibration,
        ]
    )  # fmt: skip


def _source_hash(cell: Cell) -> str:
    return code_of(cell.setting.options.registry.method(cell.method), cell.parameters)


def code_of(factory: MethodFactory, parameters: Mapping[str, Any]) -> str:
    """Return the hash of the code of a method with some parameters, as a record holds it."""
    try:
        axes = factory.build(**parameters)
    except Exception:  # foreign code; why it cannot be built is told where the cell runs
        axes = None
    return provenance.source_hash(factory, axes)


def _record(cell: Cell, bench: Bench, outcome: Outcome, watch: Stopwatch) -> Record:
    options = cell.setting.options
    return Record(
        status=outcome.status,
        reason=outcome.reason,
        traceback=outcome.traceback,
        result=outcome.result,
        identity=identity(cell, bench, len(bench.indices)),
        cell=CellFields(
            profile=options.profile, task=cell.setting.task, model=cell.setting.model, method=cell.method,
            parameters=cell.parameters, overrides=dict(cell.overrides), adaptive=asdict(bench.spec.adaptive),
            steps=cell.steps, seed=cell.repetition, base_seed=options.base_seed,
        ),
        task=_task_fields(bench),
        method=_method_fields(cell, outcome.method),
        data=_data_fields(bench),
        ann=_ann_fields(bench),
        inputs=InputFields(
            tested=len(bench.indices), limit=options.limit, selection=bench.selection,
            calibration=len(bench.calibration), calibration_asked=options.calibration,
            calibration_rule=CALIBRATION_RULE, diagnosed=min(DIAGNOSED, len(bench.calibration)),
        ),
        run=_run_fields(cell.setting, watch), earlier=list(outcome.earlier),
    )  # fmt: skip


def _task_fields(bench: Bench) -> TaskFields:
    rows = bench.task.published if bench.setting.options.profile == "full" else ()
    published = [
        PublishedFields(method=row.method, ann=row.ann, snn=row.snn, steps=row.steps, source=row.source)
        for row in rows
        if row.model == bench.setting.model
    ]
    task = bench.task
    return TaskFields(title=task.title, modality=task.modality, classes=len(bench.data.classes), published=published)


def _method_fields(cell: Cell, method: Method | None) -> MethodFields:
    factory = cell.setting.options.registry.method(cell.method)
    return MethodFields(
        title=title(factory), source=factory.source, category=factory.category, reconstruction=factory.reconstruction,
        recalibrate_per_T=factory.recalibrate_per_T, stochastic=factory.stochastic,
        causal=method.causal if method else True, spike_kind=method.spike_kind if method else "binary",
        source_hash=_source_hash(cell),
    )  # fmt: skip


def title(factory: MethodFactory) -> str:
    """Return the first line of a method's docstring."""
    return (inspect.getdoc(factory.build) or factory.name).split("\n")[0].rstrip(".")


def _data_fields(bench: Bench) -> DataFields:
    origin = bench.data.provenance
    return DataFields(
        kind=origin.kind, summary=origin.summary, remarks=list(origin.remarks), fingerprint=bench.fingerprint,
        train_size=len(bench.data.train), test_size=len(bench.data.test),
    )  # fmt: skip


def _ann_fields(bench: Bench) -> AnnFields:
    info, right = bench.info, bench.right[bench.indices]
    _, products = bench.counts(bench.network)
    return AnnFields(
        weights=info.weights, origin=info.origin, file=info.file.name if info.file else None,
        recipe=recipe_fields(info), loss=info.loss, train_seconds=info.seconds, correct=int(right.sum()),
        bits=pack(right), macs=sum(products), active_macs=round(bench.active_macs, 1), trace_error=bench.trace_error,
    )  # fmt: skip


def _run_fields(setting: Setting, watch: Stopwatch) -> RunFields:
    device = setting.options.device
    head, dirty = provenance.commit()
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    return RunFields(
        seconds={phase: round(value, 3) for phase, value in watch.seconds.items()},
        peak_memory=round(peak_memory(), 1),
        versions=provenance.versions(), device=f"{device} ({name})", threads=torch.get_num_threads(),
        backend=choose(setting.options.backend, device).name, commit=head, dirty=dirty,
    )  # fmt: skip


def check_places(setting: Setting, cells: Sequence[Cell]) -> None:
    """Refuse to measure what would take the place of a record that was made by another choice.

    Raises:
        UserError: there is one.
    """
    options, (_, spec) = setting.options, setting.resolve()
    data = load_data(options, setting.task)[0].fingerprint()
    for cell in cells:
        record = read_record(cell.file)
        if record is None or record.result is None:
            continue
        recipe = record.ann.recipe or {"epochs": spec.recipe.epochs}
        there = {
            "EPOCHS": recipe["epochs"],
            "CALIBRATION": record.inputs.calibration_asked,
            "SEED": record.cell.base_seed,
        }
        asked = {"EPOCHS": spec.recipe.epochs, "CALIBRATION": options.calibration, "SEED": options.base_seed}
        other = [f"{name}={value}" for name, value in there.items() if value != asked[name]]
        other += ["other data"] if record.data.fingerprint != data else []
        if other:
            raise UserError(
                f"{cell.file} was measured with {', '.join(other)} and would be lost; name another folder with RESULTS=."
            )


def run_setting(
    setting: Setting, cells: Sequence[Cell], tell: Callable[[Cell, Record, bool], None], report: Report | None = None
) -> None:
    """Run the cells of one network that have no valid record of so many inputs; `tell` hears of each: cell, record, whether it was there.

    Raises:
        UserError: data, checkpoint or network cannot be used, or a record would take the place of another choice's.
    """
    check_places(setting, cells)
    bench = open_bench(setting, report)
    for cell in cells:
        record = stored_record(cell, bench)
        if record and record.inputs.tested >= len(bench.indices):
            tell(cell, record, True)
            continue
        fresh = run_cell(cell, report, record)
        if record is None or fresh.status == "done":  # what is measured is not lost to a failure on further inputs
            write(fresh, cell.file)
        tell(cell, fresh, False)
