"""The stored measurement of one cell: counts, never ratios; one JSON file, written whole or not at all."""

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

SCHEMA: Literal[1] = 1
"""Raised when a field changes its meaning; records of another version are not read."""
Status = Literal["done", "skipped", "failed"]
OWN = "this benchmark"
"""The source of a method that was made here."""


class Part(BaseModel):
    """A group of fields; an unknown one is an error, so that a record and this file never drift apart."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CellFields(Part):
    """What was run."""

    profile: str = Field(description="`sample` (embedded data, small networks) or `full` (the paper's).")
    task: str = Field(description="Name of the task.")
    model: str = Field(description="Name of the network.")
    method: str = Field(description="Name of the method.")
    parameters: dict[str, Any] = Field(description="All parameters of the method.")
    overrides: dict[str, Any] = Field(description="Those parameters that differ from the method's defaults.")
    adaptive: dict[str, float] = Field(description="MSAT's parameters of Table 2 for this network.")
    steps: int = Field(description="Nominal number T of time steps.")
    seed: int = Field(description="Repetition, from 0; seeds are derived from (base seed, task, method, repetition).")
    base_seed: int = Field(description="Base seed of the run; also the seed of the network's training.")


class PublishedFields(Part):
    """A row of a paper's table for this network."""

    method: str = Field(description="Name of the method as the paper prints it.")
    ann: float | None = Field(description="Published ANN accuracy, percent.")
    snn: float = Field(description="Published SNN accuracy, percent.")
    steps: int | None = Field(description="Published number of time steps.")
    source: str = Field(description="Where the row stands.")


class TaskFields(Part):
    """What the tables say of the task."""

    title: str = Field(description="Title of the task.")
    modality: str = Field(description="image, text or speech.")
    classes: int = Field(description="Number of classes.")
    published: list[PublishedFields] = Field(description="Published rows of this network; none under `sample`.")


class MethodFields(Part):
    """What the tables say of the method."""

    title: str = Field(description="Title of the method.")
    source: str = Field(description="Its publication.")
    category: str = Field(description="post-training, control, or reference (never ranked).")
    reconstruction: str = Field(description="What is reconstructed or differs from the publication.")
    recalibrate_per_T: bool = Field(description="True: every T was converted and simulated anew.")
    stochastic: bool = Field(description="True: results depend on the seed.")
    causal: bool = Field(description="False: an output step needs later input.")
    spike_kind: str = Field(description="What a spike carries: binary, signed, count, pow2 or graded.")
    source_hash: str = Field(description="Hash of the code, comments left out, of the method and of its rules.")

    @property
    def mark(self) -> str:
        """What it is where it is not a published post-training rule, else nothing."""
        if self.category == "post-training":
            return "ours" if self.source == OWN else ""
        return self.category


class DataFields(Part):
    """What it was measured on."""

    kind: str = Field(description="`sample` for embedded data, `real` for a data set read from disk.")
    summary: str = Field(description="The data set in one phrase.")
    remarks: list[str] = Field(description="What a reader must know of it.")
    fingerprint: str = Field(description="Hash of labels and of some examples of both splits.")
    train_size: int = Field(description="Examples of the train split.")
    test_size: int = Field(description="Examples of the test split.")

    @property
    def label(self) -> str:
        """The data set and what a reader must know of it, as every table says it."""
        return "; ".join([self.summary, *self.remarks])


class AnnFields(Part):
    """The network that was converted."""

    weights: str = Field(description="Hash of all its weights.")
    origin: str = Field(description="trained, cached, pretrained or random.")
    file: str | None = Field(description="Name of the checkpoint file.")
    recipe: dict[str, Any] | None = Field(description="How it was trained.")
    loss: float | None = Field(description="Mean training loss of the last epoch.")
    train_seconds: float = Field(description="Wall time of its training, s.")
    correct: int = Field(description="Its right answers on the tested inputs.")
    bits: str = Field(description="One bit per tested input, right or not: packed, base64.")
    macs: int = Field(description="Its multiply-accumulates for one input.")
    active_macs: float | None = Field(
        default=None,
        description="Those of an ANN that skips zeros, counted as for the spiking network: what spikes do not reach, and behind"
        " it fan-out times non-zero outputs; mean over the tested inputs. Null where it was not counted.",
    )
    trace_error: float = Field(description="Largest deviation of the traced network's logits, of their largest one.")


class InputFields(Part):
    """Which inputs were used."""

    tested: int = Field(description="Test inputs simulated.")
    limit: int | None = Field(description="The LIMIT that was asked for, or null.")
    selection: str = Field(description="How they were chosen.")
    calibration: int = Field(description="Calibration inputs used.")
    calibration_asked: int = Field(description="Calibration inputs asked for.")
    calibration_rule: str = Field(description="How they were chosen.")
    diagnosed: int = Field(description="Calibration inputs on which SIN and conversion error were counted.")


class Diagnosis(Part):
    """Counts of a site against the ANN on the diagnosed inputs; lists run along `steps`."""

    silent: int = Field(description="Neurons whose clean pre-activation is <= 0.")
    positive: int = Field(description="Neurons whose clean pre-activation is > 0.")
    sin: list[int] = Field(description="Silent neurons that have fired (SIN).")
    sin_spikes: list[int] = Field(description="Their spikes so far.")
    fired_positive: list[int] = Field(description="Positive neurons that have fired.")
    squared_error: list[float] = Field(description="Sum of (mean output - activation)^2, activation units squared.")
    squared_activation: float = Field(description="Sum of squared activations.")


class Population(Part):
    """One stage of the spiking network; lists run along the record's `checkpoints`, sums over all tested inputs."""

    name: str = Field(description="Name of the module.")
    role: Literal["site", "pool", "readout", "relay"] = Field(
        description="What it replaces: a ReLU, a max-pool, the output; a relay is a site that the ANN has not."
    )
    neurons: int = Field(description="Units of one input (for a pool: window places).")
    spike_kind: str = Field(description="What its spikes carry.")
    additions: int = Field(description="Additions of one unit in one step.")
    multiplications: int = Field(description="Multiplications of one unit in one step.")
    transcendentals: int = Field(
        description="Exponentials, logarithms and divisions by what is not constant, of one unit in one step."
    )
    macs: int = Field(description="Multiply-accumulates of the ANN's synapses that feed it, for one input.")
    constant: bool = Field(description="True: no spike reaches it, so its synapses run once for an input.")
    spikes: list[int] = Field(description="Spikes sent.")
    synaptic_events: list[int] = Field(description="Non-zero outputs times their fan-out (N_sop).")
    synaptic_spikes: list[int] = Field(description="The same, each weighted by its spike count (N_cnt).")
    threshold: tuple[float, float, float] | None = Field(
        description="Least, mean and largest threshold; of a rule that is set anew for each T (as its operations), those for the first."
    )
    diagnosis: Diagnosis | None = Field(description="Sites only: SIN and conversion error.")


class NeuronTrace(Part):
    """One neuron of the last site over the first steps, for the first calibration input; activation units."""

    site: str = Field(description="Name of the module.")
    neuron: int = Field(description="Its number in the flattened site.")
    current: list[float] = Field(description="Input current at every step.")
    threshold: list[float] = Field(description="Threshold at every step.")
    potential: list[float] = Field(description="Membrane potential after every step.")
    output: list[float] = Field(description="What it sent at every step; not zero where it spiked.")


class Result(Part):
    """What was measured. Lists of counts run along `steps` or `checkpoints` as said."""

    steps: list[int] = Field(description="Steps with counts: all, or the checkpoints of a method converted per T.")
    correct: list[int] = Field(description="Right answers, along `steps`.")
    agree: list[int] = Field(description="Answers equal to the ANN's, along `steps`.")
    events: dict[str, list[int]] = Field(description="Synaptic events so far by spike kind, along `steps`.")
    spikes: dict[str, list[int]] = Field(description="Synaptic spikes so far by spike kind, along `steps`.")
    checkpoints: list[int] = Field(description="Powers of two up to T, and T.")
    bits: list[str] = Field(description="One bit per tested input, along `checkpoints`: packed, base64.")
    populations: list[Population] = Field(description="All stages in execution order.")
    real_latency: list[int] = Field(description="Steps until the answer of each checkpoint is out.")
    first_pass: int = Field(default=0, description="Steps that each neuron ran before step 1 (SRP, COS).")
    traces: list[NeuronTrace] | None = Field(
        default=None, description="Some neurons over time, where they can be followed."
    )


class RunFields(Part):
    """On what, when it matters, and how long it took."""

    seconds: dict[str, float] = Field(description="Wall time per phase, s.")
    peak_memory: float = Field(description="Largest resident memory of the process so far, MiB.")
    versions: dict[str, str] = Field(description="Versions of Python and packages.")
    device: str = Field(description="Where it ran.")
    threads: int = Field(description="Torch's CPU threads.")
    backend: str = Field(description="Simulation backend.")
    commit: str | None = Field(description="Git commit of the code.")
    dirty: bool | None = Field(description="True: the code differed from the commit (results left out).")

    @property
    def version(self) -> str:
        """The commit, shortened, and whether the code differed from it."""
        return (self.commit or "unknown")[:12] + (" with changes" if self.dirty else "")


class EarlierRun(Part):
    """A run with a smaller LIMIT whose counts are part of the record."""

    tested: int = Field(description="Test inputs that it counted.")
    run: RunFields = Field(description="On what, when and how long.")


class Record(Part):
    """The measurement of one cell, or why there is none."""

    schema_version: Literal[1] = Field(default=SCHEMA, description="Version of these fields.")
    status: Status = Field(description="done, skipped (by rule, see reason) or failed.")
    reason: str = Field(default="", description="Why it was skipped or failed, one sentence.")
    traceback: str | None = Field(default=None, description="Where it failed, if that was not foreseen.")
    identity: str = Field(description="Hash of all that determines the result; an equal one is not measured again.")
    cell: CellFields
    task: TaskFields
    method: MethodFields
    data: DataFields
    ann: AnnFields
    inputs: InputFields
    run: RunFields = Field(description="The run that counted the inputs which no earlier one had.")
    earlier: list[EarlierRun] = Field(default=[], description="Runs with smaller LIMITs that had counted the others.")
    result: Result | None = Field(default=None, description="Present if and only if the cell is done.")

    @model_validator(mode="after")
    def _only_done_has_a_result(self) -> "Record":
        if (self.status == "done") != (self.result is not None):
            raise ValueError("a record holds a result if and only if it is done")
        return self

    @property
    def runs(self) -> list[RunFields]:
        """All runs whose counts it holds, in the order in which they were made."""
        return [*(part.run for part in self.earlier), self.run]

    def text(self) -> str:
        """Return the file's content: JSON, one line per group of fields."""
        fields = self.model_dump(mode="json")
        return "{\n" + ",\n".join(f'"{k}": {json.dumps(v, ensure_ascii=False)}' for k, v in fields.items()) + "\n}\n"


def write(record: Record, file: Path) -> None:
    """Write a record so that a reader sees the old file or the new one, whatever happens."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(record.text())
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)


def read_record(file: Path) -> Record | None:
    """Return a record, or None where the file is absent, broken or of another version."""
    try:
        return Record.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def read_files(folder: Path) -> tuple[list[tuple[Path, Record]], list[Path]]:
    """Return the records below a folder with their files, in order of their paths, and the files that are no valid records."""
    read = [(file, read_record(file)) for file in sorted(folder.glob("**/*.json"))]
    return [(file, record) for file, record in read if record is not None], [f for f, record in read if record is None]


def read_records(folder: Path) -> tuple[list[Record], list[Path]]:
    """Return the records below a folder, in order of their paths, and the files that are no valid records."""
    found, broken = read_files(folder)
    return [record for _, record in found], broken


def task_folders(results: Path) -> list[Path]:
    """Return the folders that may hold a task's records."""
    return sorted(path for profile in ("sample", "full") for path in (results / profile).glob("*/"))


def reported(results: Path) -> list[Record]:
    """Return the records that the report of a results folder reads; of a folder that is not laid out so, all below it.

    A results folder may hold others (results/short), whose records its own tables do not show.
    """
    return [record for folder in task_folders(results) or [results] for record in read_records(folder)[0]]


def pack(bits: Tensor) -> str:
    """Return booleans [N] as base64 of packed bits."""
    return base64.b64encode(np.packbits(bits.cpu().numpy()).tobytes()).decode()


def unpack(text: str, size: int) -> Sequence[bool]:
    """Return the `size` booleans of a packed text."""
    packed = np.frombuffer(base64.b64decode(text), dtype=np.uint8)
    return np.unpackbits(packed, count=size).astype(bool).tolist()
