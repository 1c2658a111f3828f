"""Searches the axes for combinations that nobody has published, judged on calibration inputs alone.

The calibration inputs (training data without labels) are halved: thresholds and corrections are fitted on the first half,
and a candidate's score is its agreement with the ANN's own answers on the second, averaged over T = 2, 4, 8, 16; equals are
ordered by the error of their logits. No label and no test input is read. Each round keeps the best for harder networks.

    python -m benchmarks.search [DATA]
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

from baselines.dcgs import Gaussian
from baselines.ltb import LocallyBalanced
from benchmarks.bench import Bench, open_bench
from benchmarks.cells import Options, Setting
from msat.backends import Events
from msat.calibration import Calibration
from msat.conversion import convert
from msat.corrections import BiasCalibration
from msat.errors import UserError
from msat.method import Axes, Initial, Method
from msat.multithreshold import HybridMultiThreshold, MultiThreshold
from msat.network import Network, Readout
from msat.neurons import Burst, IntegrateAndFire, Neuron
from msat.pooling import BeforeNeuron, LateralInhibition
from msat.simulation import Chunk, Observer, simulate, tensor_batches
from msat.thresholds import Maximum, Percentile, SquaredError, ThresholdRule

STEPS = (2, 4, 8, 16)
"""T at which a candidate is judged: where methods of today differ."""
THRESHOLDS: dict[str, ThresholdRule] = {
    "maximum": Maximum("channel"),
    "p99.9": Percentile(99.9),
    "MMSE": SquaredError("channel"),
    "Gaussian": Gaussian(4),
    "LTB": LocallyBalanced(),
}
NEURONS: dict[str, tuple[Neuron, bool, tuple[str, ...]]] = {
    "IF": (IntegrateAndFire(), False, ("0", "θ/2", "shift")),
    "burst 4": (Burst(cap=4), False, ("0", "θ/2", "shift")),
    "multi-threshold 4": (MultiThreshold(members=4), False, ("0", "θ/16")),
    "multi-threshold 4, differential": (MultiThreshold(members=4), True, ("0", "θ/16")),
    "hybrid 4": (HybridMultiThreshold(members=4), False, ("0", "θ/16")),
}
"""Neuron, whether it is fed with changes, and the starts that suit it; θ/16 is half of the smallest of four members."""
STARTS: dict[str, tuple[float, bool]] = {
    "0": (0.0, False),
    "θ/2": (0.5, False),
    "θ/16": (1 / 16, False),
    "shift": (0.0, True),
}
CORRECTIONS = {"none": (), "bias": (BiasCalibration(),)}
POOLS = {"inhibition": LateralInhibition(), "before neuron": BeforeNeuron()}


@dataclass(frozen=True)
class Candidate:
    """One point on the axes."""

    name: tuple[str, ...]
    axes: Axes


@dataclass(frozen=True, order=True)
class Score:
    """How near a candidate's answers are to the ANN's; larger is better."""

    agreement: float
    """Share of inputs answered alike."""
    closeness: float
    """Minus the relative squared error of the logits, both centred and scaled to unit length."""


class FinalScores(Observer):
    """The readout after the last step: [N, classes]."""

    def __init__(self) -> None:
        self.parts: list[Tensor] = []
        self.last: Tensor | None = None

    def see(self, chunk: Chunk) -> None:
        if isinstance(chunk.stage.stage.rule, Readout):
            self.last = chunk.traffic.output()[-1]

    def batch_done(self, inputs: Tensor, samples: Tensor) -> None:
        if self.last is not None:
            self.parts.append(self.last)


def candidates() -> Iterator[Candidate]:
    """Yield every legal point of the grid."""
    for names in product(THRESHOLDS, NEURONS, STARTS, CORRECTIONS, POOLS):
        threshold, (neuron, differential, starts), (fraction, shift) = (
            THRESHOLDS[names[0]],
            NEURONS[names[1]],
            STARTS[names[2]],
        )
        if names[2] not in starts:
            continue
        try:
            axes = Axes(
                threshold, neuron, Initial(fraction), shift, CORRECTIONS[names[3]], POOLS[names[4]],
                "differential" if differential else "rate",
            )  # fmt: skip
        except UserError:
            continue
        yield Candidate(names, axes)


def judge(candidate: Candidate, network: Network, fit: Tensor, inputs: Tensor, bench: Bench) -> Score:
    """Return the mean score over `STEPS` on judged inputs [n, ...] after conversion with the inputs `fit`."""
    wanted = torch.cat([network(part) for part in inputs.split(32)])
    method = Method("candidate", "", "", candidate.axes, {})
    alike, near = 0.0, 0.0
    for steps in STEPS:
        spiking = convert(method, Calibration(network, fit, steps, 0, bench.spec.adaptive))
        observer = FinalScores()
        simulate(spiking, tensor_batches(inputs, 32), steps, [observer], Events())
        found = torch.cat(observer.parts)
        alike += (found.argmax(1) == wanted.argmax(1)).double().mean().item() / len(STEPS)
        near -= (_unit(found) - _unit(wanted)).square().sum(1).mean().item() / len(STEPS)
    return Score(alike, near)


def _unit(logits: Tensor) -> Tensor:
    centred = logits - logits.mean(1, keepdim=True)
    return centred / centred.norm(dim=1, keepdim=True).clamp(min=1e-9)


def rank(pool: Sequence[Candidate], settings: Sequence[Setting], inputs: int) -> list[tuple[Candidate, list[Score]]]:
    """Return candidates with their score on each network, best mean first."""
    scores: list[list[Score]] = [[] for _ in pool]
    for setting in settings:
        bench = open_bench(setting)
        fit, judged = bench.calibration[: len(bench.calibration) // 2], bench.calibration[-inputs:]
        for number, candidate in enumerate(pool):
            scores[number].append(judge(candidate, bench.network, fit, judged, bench))
            if number % 20 == 0:
                print(f"{setting.task} {setting.model}: {number} of {len(pool)}", file=sys.stderr, flush=True)
    return sorted(zip(pool, scores, strict=True), key=lambda row: mean(row[1]), reverse=True)


def mean(scores: Sequence[Score]) -> Score:
    """Return the mean over networks."""
    return Score(
        sum(s.agreement for s in scores) / len(scores),
        sum(s.closeness for s in scores) / len(scores),
    )


def main(arguments: Sequence[str]) -> None:
    """Run the rounds and print the best of each."""
    small = Options(calibration=256)
    rounds = [([Setting("cifar100", "vgg-small", small)], 64, 40)]
    rounds.append(([Setting("cifar100", "resnet-small", small), Setting("speech", "m5-small", small)], 96, 10))
    if arguments:
        full = Options(profile="full", data=Path(arguments[0]), calibration=256)
        rounds.append(
            (
                [
                    Setting("cifar10", "resnet20-he", replace(full, epochs=24)),
                    Setting("speech", "m5", replace(full, epochs=24)),
                ],
                96,
                6,
            )
        )
    pool = list(candidates())
    for settings, inputs, keep in rounds:
        ranked = rank(pool, settings, inputs)
        print(f"\n{len(pool)} candidates, {inputs} judged calibration inputs of each network, T = {STEPS}\n")
        networks = [f"{s.task} {s.model}" for s in settings]
        columns = ["threshold", "neuron", "start", "correction", "pool", "agreement", "logit error", *networks]
        rows = [
            [
                *candidate.name,
                f"{100 * mean(scores).agreement:.1f}",
                f"{-mean(scores).closeness:.4f}",
                *(f"{100 * s.agreement:.1f}" for s in scores),
            ]
            for candidate, scores in ranked[:16]
        ]
        print(tabulate(rows, columns, tablefmt="github", disable_numparse=True), flush=True)
        pool = [candidate for candidate, _ in ranked[:keep]]


if __name__ == "__main__":
    main(sys.argv[1:])
