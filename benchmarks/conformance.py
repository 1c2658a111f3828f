"""What a method must satisfy before its figures mean anything, tried on a tiny network."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from msat.backends import Backend, Events, Folded, Step
from msat.calibration import Calibration
from msat.conversion import convert
from msat.method import Axes, Method
from msat.network import Network, Readout, SpikingNetwork
from msat.neurons import Neuron, SpikeKind
from msat.simulation import Chunk, Observer, simulate, tensor_batches
from msat.tracing import trace

STEPS = 8
INPUTS = 12
LONG = 1024
"""Another T, far from STEPS: only the conversion is for it, the simulation is as short."""
CLOSE = 1e-3
"""Share of the largest value within which two sums of the same numbers agree."""


class Seen(Observer):
    """What a simulation did; for tiny runs only."""

    def __init__(self) -> None:
        self.batches: list[list[Tensor]] = [[]]
        self.sent: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self.neurons: dict[str, tuple[SpikeKind, Tensor]] = {}
        """Kind of spike and threshold, by site."""

    def see(self, chunk: Chunk) -> None:
        name, population = chunk.stage.stage.name, chunk.stage.population
        if isinstance(chunk.stage.stage.rule, Readout):
            self.batches[-1].append(chunk.traffic.output())
        elif isinstance(neuron := getattr(population, "inner", population), Neuron):  # differential coding wraps it
            self.neurons[name] = population.spike_kind, neuron.threshold
            self.sent.setdefault(name, []).append((chunk.traffic.output(), chunk.traffic.spikes()))

    def batch_done(self, inputs: Tensor, samples: Tensor) -> None:
        if int(samples[-1]) < INPUTS - 1:
            self.batches.append([])

    @property
    def logits(self) -> Tensor:
        """The readout at every step: [T, inputs, classes]."""
        return torch.cat([torch.cat(batch) for batch in self.batches], 1)


def method_fault(build: Callable[[], Method]) -> str:
    """Return what is wrong with a method, or nothing.

    It must convert a small convolutional network and give finite logits of the right shape; its neurons must send what
    they say, and figures must not depend on how work is cut, on torch's global random state, or on a T that the method
    does not say it converts for.

    Raises:
        UserError: the conversion says what is wrong.
    """
    method = build()
    if not isinstance(method.axes, Axes):
        return f"it gives {type(method.axes).__name__}; return Axes(...)."
    spiking = converted(method)
    whole = run(spiking, Folded(), INPUTS)
    if whole.logits.shape != (STEPS, INPUTS, 4):
        return f"logits must have the shape {(STEPS, INPUTS, 4)}, got {tuple(whole.logits.shape)}."
    if not whole.logits.isfinite().all():
        return "logits must be finite; look for a division by a threshold or a count of zero."
    return (
        _misnamed_spikes(whole)
        or _cut(method, spiking, whole.logits)
        or _drawn(build, method, whole)
        or _hidden_steps(method, whole)
    )


def _misnamed_spikes(seen: Seen) -> str:
    for name, parts in seen.sent.items():
        output, events = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        if bool((events != events.round()).any()):
            return f"neurons of site '{name}' count parts of an event; give whole numbers as `events` of Emission."
        # What is held from step to step is an event when it begins (TSC), so only a change must be one.
        held = torch.cat([torch.zeros_like(output[:1]), output[:-1]])
        if bool(((output != 0) & (output != held) & (events == 0)).any()):
            return f"neurons of site '{name}' send something and count no event; give their number as `events` of Emission."
        kind, threshold = seen.neurons[name]
        found = not_sent_as(kind, threshold, output.flatten(0, 1), events.flatten(0, 1))
        if found:
            return (
                f"the neurons of site '{name}' say that their spikes are '{kind}', but {found}; set spike_kind"
                " of the neuron, which decides what a spike costs ('graded': any value), or give the number of spikes sent"
                " at once as `events` of Emission."
            )
    return ""


def not_sent_as(kind: SpikeKind, threshold: Tensor, output: Tensor, events: Tensor) -> str:
    """Return how what neurons send contradicts the kind of spike they declare, or nothing.

    Args:
        kind: what they declare.
        threshold: theirs, broadcast over [N, ...].
        output: what each neuron sent [N, ...], over steps and inputs.
        events: spikes counted for it [N, ...].
    """
    if kind == "graded":
        return ""
    if kind in {"binary", "count"} and bool((output < 0).any()):
        return "some are negative"
    size, count = output.abs(), events.abs().clamp(min=1)
    if kind == "pow2":
        fits = bool(_powers(size / threshold, count).all())
        return "" if fits else "some are no sum of as many powers of two, times the threshold, as they count events"
    one = size / count
    least = torch.where(one > 0, one, torch.inf).amin(0)
    ratio = torch.where(one > 0, one / least, 1)
    if bool((ratio > 1 + CLOSE).any()):
        worst = int(ratio.amax(0).argmax())
        return f"one neuron sends {least.flatten()[worst]:.3g} and {one.amax(0).flatten()[worst]:.3g}"
    return ""


def _powers(ratio: Tensor, count: Tensor) -> Tensor:
    """Return where a number is a sum of at most `count` powers of two, negative ones among them."""
    rest = ratio.double()
    for k in range(int(count.max())):
        power = torch.exp2(torch.log2(rest.abs().clamp(min=1e-30)).round())
        rest = torch.where((k < count) & (rest.abs() > CLOSE * ratio), rest - rest.sign() * power, rest)
    return rest.abs() <= CLOSE * ratio


def _cut(method: Method, spiking: SpikingNetwork, whole: Tensor) -> str:
    if moved(run(spiking, Folded(), INPUTS).logits, whole) > 0:
        return (
            "a second run of the same network gives other logits; draw with msat.randomness.uniform instead of torch's global"
            " generator, and say @method(…, stochastic=True)."
        )
    others = {
        "a batch of 5": run(spiking, Folded(), 5).logits,
        "the event kernels": run(spiking, Events(), INPUTS).logits,
    }
    if method.causal:
        others |= {
            "chunks of 3 steps": run(spiking, Folded(3), INPUTS).logits,
            "the step loop": run(spiking, Step(), INPUTS).logits,
        }
    for name, other in others.items():
        share = moved(other, whole)
        if share > 0.05:
            return (
                f"results must not depend on how work is cut, but with {name} {100 * share:.0f} % of the logits differ."
            )
    return ""


def _drawn(build: Callable[[], Method], method: Method, seen: Seen) -> str:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch.initial_seed() + 1)
        again = moved(run(converted(build()), Folded(), INPUTS).logits, seen.logits)
    if again > 0:
        return (
            f"a second conversion moves {100 * again:.0f} % of the logits; draw from a generator with calibration.seed"
            " (msat/randomness.py) instead of torch's global one, and say @method(…, stochastic=True)."
        )
    if not method.stochastic and moved(run(converted(method, seed=1), Folded(), INPUTS).logits, seen.logits) > 0:
        return "the conversion depends on the seed; say @method(…, stochastic=True), so that several seeds are run."
    return ""


def _hidden_steps(method: Method, seen: Seen) -> str:
    if method.recalibrate_per_T:
        return ""
    if not method.causal:
        return "its neurons read all T steps before they send; say @method(…, recalibrate_per_T=True)."
    share = moved(run(converted(method, LONG), Folded(), INPUTS).logits, seen.logits)
    if share > 0.05:
        return f"the conversion depends on T ({100 * share:.0f} % of the logits differ); say @method(…, recalibrate_per_T=True)."
    return ""


def moved(one: Tensor, other: Tensor) -> float:
    """Return the share of logits that differ; a spike may move where rounding differs, a lost or doubled state moves many."""
    return float((~((one - other).abs() <= CLOSE * other.abs().max())).double().mean())


def converted(method: Method, steps: int = STEPS, seed: int = 0) -> SpikingNetwork:
    """Convert the tiny network for T = `steps`."""
    return convert(method, Calibration(tiny_network(), inputs(64, seed=1), steps, seed))


def run(spiking: SpikingNetwork, backend: Backend, batch: int) -> Seen:
    """Simulate the tiny network's inputs, `batch` at once."""
    seen = Seen()
    simulate(spiking, tensor_batches(inputs(INPUTS, seed=2), batch), STEPS, [seen], backend)
    return seen


def tiny_network() -> Network:
    """Return a traced network with two convolutions, a max-pool and two ReLUs, its weights from a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4),
        )  # fmt: skip
    return trace(module, inputs(1, seed=0))


def inputs(size: int, seed: int) -> Tensor:
    """Return random inputs [size, 1, 8, 8]."""
    return torch.randn(size, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
