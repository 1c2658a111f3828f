"""Step equations of spiking neurons: (current, state, parameters) -> (output, events, state), written in the papers' order.

Symbols are those of methods.md 0.1: x(t) current, m(t) potential before firing, v(t) after reset, s(t) spike variable,
theta threshold, o(t) what is transmitted. Currents, potentials, thresholds and outputs are in ANN activation units;
spikes are counts (dimensionless). Shapes: currents and outputs [B, ...], parameters broadcast over [1, ...].
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor

if TYPE_CHECKING:
    from msat.calibration import Calibration

SpikeKind = Literal["binary", "signed", "count", "pow2", "graded"]
UNSET = torch.tensor(float("nan"))
ZERO = torch.tensor(0.0)


class Emission(NamedTuple):
    """What a population delivers in one step ([B, ...]) or in a chunk of steps ([T, B, ...])."""

    output: Tensor
    """o(t), activation units."""
    events: Tensor | None = None
    """Spikes sent, as a count per neuron; None means one for each non-zero output."""

    def spikes(self) -> Tensor:
        """Return the number of spikes of each neuron, in the output's type."""
        return (self.output != 0).to(self.output) if self.events is None else self.events


class Operations(NamedTuple):
    """Arithmetic of one neuron in one step, beside the synapses that feed it: that of its equations, whether it spikes or not.

    Free are what only selects (a threshold times 0, 1 or -1) and what only shifts (a power of two times a constant).
    """

    additions: int
    """Additions, subtractions, comparisons and roundings."""
    multiplications: int = 0
    """Also divisions by what is the same at every step, or for all neurons: the reciprocal is kept."""
    transcendentals: int = 0
    """Exponentials, logarithms, sigmoids, divisions by what each neuron has of its own."""


class Population(ABC):
    """A group of units that advances in time: neurons, spiking pools, readouts. Immutable; all state is passed along."""

    spike_kind: ClassVar[SpikeKind] = "binary"
    gain: ClassVar[float] = 1.0
    """What a mean output is multiplied by to estimate the activation; not 1 for neurons that fire part of the time."""
    window: ClassVar[bool] = False
    """True when the output at a step needs later currents (not causal): the whole run is then one chunk.

    Where it needs but their sum, make a `msat.window.WindowNeuron`; else override `scan`.
    """

    @property
    def operations(self) -> Operations:
        """What a step costs; integrate, compare and subtract by default."""
        return Operations(additions=3)

    @abstractmethod
    def start(self, current: Tensor, samples: Tensor) -> Any:
        """Return the state before step 1 for currents like `current` [B, ...] of test inputs numbered `samples` [B]."""

    @abstractmethod
    def step(self, current: Tensor, state: Any) -> tuple[Emission, Any]:
        """Return what is emitted at this step, and the state after it."""

    def scan(self, currents: Tensor, state: Any) -> tuple[Emission, Any]:
        """Advance through a chunk of currents [T, B, ...]; the same as T calls of `step`."""
        emissions = []
        for current in currents:
            emission, state = self.step(current, state)
            emissions.append(emission)
        outputs = torch.stack([e.output for e in emissions])
        events = [e.events for e in emissions if e.events is not None]
        return Emission(outputs, torch.stack(events) if events else None), state


@dataclass(frozen=True, eq=False)
class Neuron(Population):
    """A population that replaces ReLU: has a threshold and an initial potential, both set at conversion."""

    threshold: Tensor = field(default=UNSET, kw_only=True)
    initial: Tensor = field(default=ZERO, kw_only=True)
    """v(0), activation units; scalar, per channel or per neuron."""
    signed: ClassVar[bool] = False
    """True for neurons whose state has `sent`, the cumulative output that bounds negative spikes."""

    @property
    def greatest(self) -> float:
        """The most that one step can send, as a multiple of the threshold."""
        return 1.0

    def adapt(self, calibration: "Calibration") -> Self:
        """Return the neuron with whatever it takes from the calibration beside its threshold; itself by default."""
        return self

    def bind(self, threshold: Tensor, initial: Tensor) -> Self:
        """Return the neuron with its site's threshold and initial potential."""
        return replace(self, threshold=threshold, initial=initial)

    def rest(self, current: Tensor) -> Tensor:
        """Return v(0) for every neuron of a batch: [B, ...]."""
        return torch.zeros_like(current) + self.initial.to(current)


class Membrane(NamedTuple):
    """State of a neuron that remembers its membrane potential alone."""

    v: Tensor


@dataclass(frozen=True, eq=False)
class IntegrateAndFire(Neuron):
    """IF neuron, methods.md (IF1)-(IF4); `hard` resets to zero instead of subtracting (IF3').

    `strict` spikes only above the threshold, as the code of Rathi et al. does; everyone else spikes at equality.
    """

    reset: Literal["soft", "hard"] = "soft"
    strict: bool = False

    def start(self, current: Tensor, samples: Tensor) -> Membrane:
        return Membrane(self.rest(current))

    def step(self, current: Tensor, state: Membrane) -> tuple[Emission, Membrane]:
        m = state.v + current  # (IF1)
        s = (m > self.threshold if self.strict else m >= self.threshold).to(m)  # (IF2)
        v = m - self.threshold * s if self.reset == "soft" else m * (1 - s)  # (IF3), (IF3')
        return Emission(self.threshold * s), Membrane(v)  # (IF4)


@dataclass(frozen=True, eq=False)
class Burst(Neuron):
    """Up to `cap` spikes in a step (Li & Zeng 2022, methods.md B9); cap 1 is the IF neuron."""

    cap: int = 5
    spike_kind: ClassVar[SpikeKind] = "count"

    @property
    def operations(self) -> Operations:
        """m, floor, two bounds and v; m / theta and s theta. One spike takes but a comparison."""
        return Operations(additions=3) if self.cap == 1 else Operations(additions=5, multiplications=2)

    @property
    def greatest(self) -> float:
        return float(self.cap)

    def start(self, current: Tensor, samples: Tensor) -> Membrane:
        return Membrane(self.rest(current))

    def step(self, current: Tensor, state: Membrane) -> tuple[Emission, Membrane]:
        m = state.v + current
        s = torch.floor(m / self.threshold).clamp(0, self.cap)
        v = m - s * self.threshold
        return Emission(s * self.threshold, s), Membrane(v)


class Tally(NamedTuple):
    """State of a readout: the score and the number of steps behind it."""

    score: Tensor
    t: int


@dataclass(frozen=True, eq=False)
class SumReadout(Population):
    """Prediction from the summed output of the last layer over steps 1..t (methods.md 0.1, readout)."""

    operations = Operations(additions=1)

    def start(self, current: Tensor, samples: Tensor) -> Tally:
        return Tally(torch.zeros_like(current), 0)

    def step(self, current: Tensor, state: Tally) -> tuple[Emission, Tally]:
        tally = Tally(state.score + current, state.t + 1)
        return Emission(tally.score), tally
