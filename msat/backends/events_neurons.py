"""Which neurons the kernels know: their parameters and states as the kernels take them."""

from collections.abc import Callable
from ctypes import CDLL
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from msat.adaptive import AdaptiveThreshold
from msat.backends.events_pack import with_batch
from msat.backends.kernels.structs import Adaptive, Levels
from msat.coding import DifferentialNeuron
from msat.multithreshold import HybridMultiThreshold, MultiThreshold, Retracting
from msat.neurons import ZERO, Burst, IntegrateAndFire, Neuron, Population
from msat.signed import SignedIntegrateAndFire
from msat.task import CHAIN

States = tuple[Tensor, ...]


@dataclass(frozen=True)
class Fusion:
    """A neuron for the kernels; tensors broadcast over [B, ...], activation units."""

    kernel: str | CDLL
    """A key of `structs.NEURONS`; of a written neuron the library, which is chosen for each chunk."""
    theta: Tensor
    rest: States
    """Each state before step 1, in the kernel's order."""
    read: Callable[[Any], States]
    """Returns the same from the neuron's own state: [B, ...] each."""
    adaptive: Adaptive | None = None
    levels: Levels | None = None
    quiet: Tensor = ZERO
    """The current from zero input, which differential coding takes off."""
    counted: bool = False
    """Whether an event may be several spikes."""
    binary: bool = False
    """Whether every event is one spike of theta, which then is the same for all neurons of a channel."""


def fuse(population: Population, dims: int) -> Fusion | None:
    """Return how the kernels run a population whose neurons lie in `dims` dimensions, or None where they cannot."""
    if isinstance(population, DifferentialNeuron):
        return _differential(population)
    if type(population) is IntegrateAndFire:
        return _integrate_and_fire(population, dims)
    return _neuron(population) if isinstance(population, Neuron) else None


def _integrate_and_fire(neuron: IntegrateAndFire, dims: int) -> Fusion | None:
    theta, v = neuron.threshold, neuron.initial
    other = neuron.reset == "hard" or neuron.strict
    if any(n > 1 for n in with_batch(theta, dims).shape[2:]):
        if other:
            return None
        # A threshold per neuron gives every event its own value, which the adaptive kernel sends.
        return Fusion("adaptive", theta, (v, ZERO), lambda s: (s.v, s.v), Adaptive())
    levels = Levels(hard=neuron.reset == "hard", strict=neuron.strict)
    return Fusion("hard or strict" if other else "if", theta, (v,), lambda s: (s.v,), levels=levels, binary=True)


def _neuron(neuron: Neuron) -> Fusion | None:
    kind, theta, v = type(neuron), neuron.threshold, neuron.initial
    if isinstance(neuron, AdaptiveThreshold) and kind is AdaptiveThreshold:
        fusion = Fusion("adaptive", theta, (v, ZERO), lambda s: (s.v, s.mean), constants(neuron))
        return fusion if neuron.det_input == "x" else None
    if isinstance(neuron, Burst) and kind is Burst:
        return Fusion("burst", theta, (v,), lambda s: (s.v,), levels=Levels(cap=neuron.cap), counted=True)
    if isinstance(neuron, HybridMultiThreshold) and kind is HybridMultiThreshold and not neuron.communicate:
        levels = Levels(cap=2**neuron.members - 1, as_bits=1)
        return Fusion("burst", neuron.unit, (v,), lambda s: (s.v,), levels=levels, counted=True)
    if isinstance(neuron, SignedIntegrateAndFire) and kind is SignedIntegrateAndFire:
        levels = Levels(cap=neuron.cap, gated=neuron.gated)
        return Fusion("signed", theta, (v, ZERO), lambda s: (s.v, s.sent), levels=levels, counted=True)
    if isinstance(neuron, MultiThreshold) and kind is MultiThreshold:
        return _signed(neuron, Levels(members=neuron.members, up=0.75, down=0.75))
    if isinstance(neuron, Retracting) and kind is Retracting:
        return _signed(neuron, Levels(members=1, up=1.0, down=0.0))
    return None


def _signed(neuron: Neuron, levels: Levels) -> Fusion:
    return Fusion("levels", neuron.threshold, (neuron.initial, ZERO), lambda s: (s.v, s.sent), levels=levels)


def _differential(population: DifferentialNeuron) -> Fusion | None:
    inner = _neuron(population.inner)
    if inner is None or inner.kernel != "levels" or inner.levels is None:
        return None
    inner.levels.differential = 1
    return Fusion(
        "levels", inner.theta, (*inner.rest, population.bias, ZERO),
        lambda s: (s.inner.v, s.inner.sent, s.e_in, s.e_out), levels=inner.levels, quiet=population.bias,
    )  # fmt: skip


def constants(neuron: AdaptiveThreshold) -> Adaptive:
    """Return MSAT's constants as the kernels take them."""
    p, f = neuron.parameters or CHAIN, neuron.confidence
    return Adaptive(
        p.tau_mp, p.tau_rd, p.alpha, p.k_a, 1 / p.k_i, 1 / p.C, neuron.dtt, neuron.det, neuron.units == "normalised",
        0 if f is None else {"sent": 1, "gated": 2}[f.reset], f.steps if f else 0, 1 - f.p if f else 0.0, f.key if f else 0,
    )  # fmt: skip
