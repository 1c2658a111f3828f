"""Neurons for which no kernel was made by hand: their recorded steps as C++, compiled once and kept."""

import logging
from collections.abc import Sequence
from ctypes import CDLL
from string import Template
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from msat.backends.events_neurons import Fusion
from msat.backends.events_pack import per_neuron, with_batch
from msat.backends.events_plan import spread
from msat.backends.events_record import Course, Recording, Unwritable
from msat.backends.kernels import FOLDER, written
from msat.backends.kernels.structs import PARAMETERS, STATES, Array, Stage, address
from msat.backends.trees import changed, tensors
from msat.errors import UserError
from msat.neurons import Neuron, Population
from msat.window import Sending

AHEAD = 16
"""Steps that are recorded and tried before a run begins: one whose arithmetic differs is met there, not in the middle."""


log = logging.getLogger(__name__)


class Case(NamedTuple):
    """Statements with the places of their parameters among the neuron's; steps with equal ones share the code."""

    statements: tuple[str, ...]
    parameters: tuple[int, ...]


class WrittenNeuron:
    """A neuron as a kernel that grows with the courses that its steps take.

    Args:
        population: the neuron.
        shape: one input's neurons.
        tile: channels of a tile.

    Raises:
        Unwritable: its step is not arithmetic on one neuron, or needs more states or parameters than a kernel has.
    """

    def __init__(self, population: Neuron, shape: tuple[int, ...], tile: int) -> None:
        self.population, self.shape, self.tile = population, shape, tile
        self.cases: list[Case] = []
        self.parameters: list[Tensor] = []
        self.laid: list[tuple[Array, int]] = []
        self.recording = Recording(population, shape)
        self.recordings = {changed(self.recording.state, _nothing): self.recording}
        self.begin = self.recording.begin
        self.counted = self.recording.course(0).counted
        if len(self.begin) > STATES:
            raise Unwritable(f"{len(self.begin)} states")
        for t in range(AHEAD):
            self.case(self.recording.course(t))

    def fusion(self) -> Fusion:
        """Return states and kind of spike as the kernels take them; the library is chosen for each chunk."""
        return Fusion(
            "written",
            torch.ones(1),
            tuple(x[:1] for x in self.begin),
            lambda s: neuron_values(s, self.shape),
            counted=self.counted,
        )

    def at_rest(self, samples: Tensor) -> Any:
        """Return the start state of a batch, which may depend on the samples' numbers."""
        return self.population.start(torch.zeros(len(samples), *self.shape), samples)

    def restart(self, state: Any) -> None:
        """Begin with a start state [B, ...]; its numbers of steps decide what is recorded, its tensors are the neurons' own."""
        two = changed(state, lambda x: x[[0, len(x) - 1]] if x.dim() else x)
        found = self.recordings.get(changed(two, _nothing))
        self.recording = found or Recording(self.population, self.shape, two)
        self.recordings[changed(two, _nothing)] = self.recording

    def prepare(self, job: Stage, done: int, count: int) -> CDLL:
        """Put what `count` steps after the first `done` read into a job, and return the library that runs them."""
        courses, self.course = [], np.zeros(count, np.int32)
        for k in range(count):
            try:
                courses.append(self.recording.course(done + k))
                self.course[k] = self.case(courses[k])
            except Unwritable as reason:
                raise UserError(
                    f"{named(self.population)} does something at step {done + k + 1} that the events backend cannot write"
                    f" as a kernel ({reason}); use BACKEND=folded."
                ) from None
        self.numbers = np.zeros((count, max(1, *(len(course.numbers) for course in courses))), np.float32)
        for row, course in zip(self.numbers, courses, strict=True):
            row[: len(course.numbers)] = course.numbers
        job.written.course, job.written.number = address(self.course), address(self.numbers)
        job.written.numbers = self.numbers.shape[1]
        for place, (values, step) in enumerate(self.laid):
            job.written.parameter[place], job.written.parameter_step[place] = address(values), step
        return written(self.source())

    def case(self, course: Course) -> int:
        """Return the number of a course's code."""
        if course.counted != self.counted:
            raise Unwritable("spikes that are counted at some steps only")
        found = Case(course.statements, tuple(self.place(parameter) for parameter in course.parameters))
        if found not in self.cases:
            self.cases.append(found)
        return self.cases.index(found)

    def place(self, parameter: Tensor) -> int:
        """Return a parameter's place among those of the neuron."""
        for place, known in enumerate(self.parameters):
            if known.shape == parameter.shape and torch.equal(known, parameter):
                return place
        if len(self.parameters) == PARAMETERS:
            raise Unwritable(f"more than {PARAMETERS} parameters that differ among neurons")
        self.parameters.append(parameter.clone())
        laid = per_neuron(with_batch(parameter, len(self.shape)), spread(self.shape), self.tile, fill=1.0)
        self.laid.append(laid)
        return len(self.parameters) - 1

    def source(self) -> str:
        """Return the kernel's C++."""
        template = Template((FOLDER / "written.cpp.txt").read_text())
        cases = "".join(written_case(n, case, len(self.begin), self.counted) for n, case in enumerate(self.cases))
        return template.substitute(counted=str(self.counted).lower(), parameters=len(self.parameters), courses=cases)


def written_case(number: int, case: Case, states: int, counted: bool) -> str:
    """Return the C++ of one course, for some vectors of neurons."""
    lines = ["const int64_t at = first + i * LANES;", "const vec x = load(current + i * LANES);"]
    for k in range(states):
        lines += [f"float* s{k}_at = s.state[{k}] + at;", f"const vec s{k} = load(s{k}_at);"]
    lines += [f"const vec p{k} = parameter[{place}](p, i);" for k, place in enumerate(case.parameters)]
    lines += [*case.statements, "store(value + i * LANES, output);"]
    lines += ["store(count + i * LANES, events);"] if counted else []
    fires = "(output != 0.f) | (events != 0.f)" if counted else "output != 0.f"
    lines += [f"fired[i] = bits({fires}) & w.valid(i % NV);"]
    body = "".join(f"\n                    {line}" for line in lines)
    return f"\n            case {number}:\n                for (int i = 0; i < vectors; i++) {{{body}\n                }}\n                break;"


def named(population: Population) -> str:
    """Return the name of the class that a neuron's author knows."""
    return type(population.neuron if isinstance(population, Sending) else population).__name__


def _nothing(value: Tensor) -> None:
    """Stand for a tensor where only what is no tensor counts."""


def neuron_values(state: Any, shape: Sequence[int]) -> tuple[Tensor, ...]:
    """Return the values of a state that every neuron has of its own: [B or 1, ...] each."""
    single = torch.zeros(1, *shape)
    values = [x + single if x.numel() == 1 else x for x in tensors(state) if x.dtype == torch.float32]
    return tuple(x for x in values if x.shape[1:] == single.shape[1:])


def write(population: Population, shape: tuple[int, ...], tile: int) -> WrittenNeuron | None:
    """Return a neuron as a kernel, or None where its steps cannot be written."""
    if not isinstance(population, Neuron):
        return None
    try:
        neuron = WrittenNeuron(population, shape, tile)
        written(neuron.source())
    except (
        Exception
    ) as reason:  # whatever a plugin's step does not stand, on inputs and steps that are not those of a run
        log.debug("%s runs in PyTorch: %s: %s", named(population), type(reason).__name__, reason)
        return None
    return neuron
