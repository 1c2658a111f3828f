"""A method is one point on eight axes; this module names the axes and makes methods from plugin functions."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from msat.calibration import Calibration
from msat.errors import UserError, unknown_name
from msat.network import SpikingNetwork, WarmUp
from msat.neurons import IntegrateAndFire, Neuron, Population, SpikeKind, SumReadout
from msat.pooling import LateralInhibition, PoolRule
from msat.thresholds import Maximum, ThresholdRule

if TYPE_CHECKING:
    from torch import Tensor

Category = Literal["post-training", "control", "reference"]


class Correction(ABC):
    """A point on the correction axis: mends a converted network with calibration data (bias, potential, weights, ...)."""

    rate_only: ClassVar[str] = ""
    """Why the correction cannot be combined with differential coding; empty when it can."""
    neurons: ClassVar[tuple[type[Neuron], ...]] = ()
    """The neurons that it knows how to mend; all when empty."""

    @abstractmethod
    def apply(self, network: SpikingNetwork, calibration: Calibration) -> SpikingNetwork:
        """Return the corrected network."""


@dataclass(frozen=True)
class Initial:
    """Initial potential v(0) as a fraction of the threshold (1/2: Bu et al. 2022, methods.md C1)."""

    fraction: float = 0.0

    def potential(self, threshold: "Tensor") -> "Tensor":
        """Return v(0), activation units."""
        return self.fraction * threshold


class ReadoutRule:
    """A point on the readout axis; the default sums the last layer's output over the steps so far."""

    rate_only: ClassVar[str] = ""
    """Why the readout cannot be combined with differential coding; empty when it can."""

    def population(self, network: SpikingNetwork, calibration: Calibration) -> Population:
        """Return the readout population for a network whose neurons are in place."""
        return SumReadout()


@dataclass(frozen=True)
class Axes:
    """The eight axes of section 5 of the design."""

    threshold: ThresholdRule = field(default_factory=Maximum)
    neuron: Neuron = field(default_factory=IntegrateAndFire)
    initial: Initial = field(default_factory=Initial)
    shift: bool = False
    """True adds theta/(2T) to the input at every step (Deng & Gu 2021, methods.md B7)."""
    corrections: tuple[Correction, ...] = ()
    pool: PoolRule = field(default_factory=LateralInhibition)
    coding: Literal["rate", "differential"] = "rate"
    readout: ReadoutRule = field(default_factory=ReadoutRule)
    warm_up: WarmUp | None = None
    """Initial potentials found per test input by a first pass over the network (SRP, COS)."""

    def __post_init__(self) -> None:
        if self.shift and self.initial.fraction:
            raise UserError("shift and a half-threshold start round twice (both add theta/2 in total); choose one.")
        needs = [(rule, rule.neurons) for rule in (*self.corrections, self.warm_up) if rule is not None]
        for rule, neurons in needs:
            if neurons and not isinstance(self.neuron, neurons):
                known = " or ".join(kind.__name__ for kind in neurons)
                raise UserError(
                    f"{type(rule).__name__} works with {known}, not with {type(self.neuron).__name__}; choose that neuron."
                )
        if self.coding == "differential":
            self._refuse_differential()

    def _refuse_differential(self) -> None:
        """Refuse what cannot be combined with differential coding (methods.md D12)."""
        if hasattr(self.neuron, "threshold_at"):
            raise UserError(
                "MSAT's dynamic threshold reads the potential and current of a rate code, which differential coding replaces by"
                " changes; choose a constant threshold or rate coding."
            )
        if not self.neuron.signed:
            raise UserError(
                f"differential coding needs a signed neuron that tracks what it sent, and {type(self.neuron).__name__} is not one;"
                " use MultiThreshold."
            )
        rules: tuple[Correction | ReadoutRule, ...] = (*self.corrections, self.readout)
        for rule in rules:
            if rule.rate_only:
                raise UserError(f"{type(rule).__name__} needs rate coding: {rule.rate_only}.")


@dataclass(frozen=True)
class Method:
    """A conversion method, ready to run: its axes for chosen parameters and what a table says of it."""

    name: str
    title: str
    source: str
    axes: Axes
    parameters: Mapping[str, Any]
    category: Category = "post-training"
    recalibrate_per_T: bool = False
    """True when the conversion depends on T, so that every T on the curve is a conversion and a run of its own."""
    stochastic: bool = False
    reconstruction: str = ""
    """One sentence on what is reconstructed or differs from the publication; printed below the tables."""
    source_file: str = ""

    @property
    def causal(self) -> bool:
        """False when an output step needs later input."""
        return not self.axes.neuron.window

    @property
    def spike_kind(self) -> SpikeKind:
        """What a spike carries; decides between accumulate and multiply-accumulate."""
        return self.axes.neuron.spike_kind

    def real_latency(self, steps: int, layers: int) -> int:
        """Return the steps that pass until the answer after `steps` nominal steps is out, for a chain of `layers` sites."""
        latency = steps + (self.axes.warm_up.steps(layers) if self.axes.warm_up else 0)
        if self.axes.coding == "differential":
            latency += 1  # the bias pass
        return latency if self.causal else latency * layers


@dataclass(frozen=True)
class MethodFactory:
    """A plugin function: its keyword arguments are the method's parameters, its docstring's first line the title."""

    name: str
    build: Callable[..., Axes]
    source: str
    category: Category
    recalibrate_per_T: bool
    stochastic: bool
    reconstruction: str

    @property
    def defaults(self) -> dict[str, Any]:
        return {name: p.default for name, p in inspect.signature(self.build).parameters.items()}

    def __call__(self, **parameters: Any) -> Method:
        """Return the method for parameters that override the defaults.

        Raises:
            UserError: an unknown parameter, or an illegal combination of axes.
        """
        for name in parameters:
            if name not in self.defaults:
                raise unknown_name(f"parameter of method '{self.name}'", name, self.defaults or ["(none)"])
        chosen = self.defaults | parameters
        return Method(
            name=self.name,
            title=(inspect.getdoc(self.build) or self.name).split("\n")[0].rstrip("."),
            source=self.source,
            axes=self.build(**chosen),
            parameters=chosen,
            category=self.category,
            recalibrate_per_T=self.recalibrate_per_T,
            stochastic=self.stochastic,
            reconstruction=self.reconstruction,
            source_file=inspect.getsourcefile(self.build) or "",
        )


def method(
    source: str,
    *,
    category: Category = "post-training",
    recalibrate_per_T: bool = False,
    stochastic: bool = False,
    reconstruction: str = "",
) -> Callable[[Callable[..., Axes]], MethodFactory]:
    """Turn a function that returns `Axes` into a method; its name with dashes is the method's name.

    Args:
        source: the publication, as tables print it.
        category: `control` for our own yardsticks; `reference` rows are never ranked.
        recalibrate_per_T: the axes read T (shift, MMSE thresholds, bias calibration, ...).
        stochastic: results depend on the seed, so at least three are run.
        reconstruction: what is reconstructed or differs from the publication.
    """

    def wrap(build: Callable[..., Axes]) -> MethodFactory:
        name = build.__name__.replace("_", "-")
        return MethodFactory(name, build, source, category, recalibrate_per_T, stochastic, reconstruction)

    return wrap
