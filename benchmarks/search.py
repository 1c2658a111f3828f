"""Searches the axes for combinations that nobody has published, judged on calibration inputs alone.

The calibration inputs (training data without labels) are halved: thresholds and corrections are fitted on the first half,
and a candidate's score is its agreement with the ANN's own answers on the second, averaged over T = 2, 4, 8, 16. No
label and no test input is read. Candidates are halved from round to round, each round on more or larger networks.

    python -m benchmarks.search [DATA]
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

from baselines.dcgs import Gaussian
from baselines.ltb import LocallyBalanced
from benchmarks.bench import Bench, open_bench
from benchmarks.cells import Options, Setting
from msat.backends import Folded
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


class FinalAnswers(Observer):
    """The class that is predicted after the last step, for each input."""

    def __init__(self, inputs: int) -> None:
        self.answers = torch.full((inputs,), -1)

    def see(self, chunk: Chunk) -> None:
        if isinstance(chunk.stage.stage.rule, Readout):
            self.answers[chunk.samples] = chunk.traffic.output()[-1].argmax(-1)


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


def agreement(candidate: Candidate, network: Network, fit: Tensor, judge: Tensor, bench: Bench) -> float:
    """Return the mean over `STEPS` of the share of judged inputs [n, ...] on which the spiking network answers as the ANN."""
    answers = torch.cat([network(part).argmax(1) for part in judge.split(32)])
    method = Method("candidate", "", "", candidate.axes, {})
    shares = []
    for steps in STEPS:
        spiking = convert(method, Calibration(network, fit, steps, 0, bench.spec.adaptive))
        observer = FinalAnswers(len(judge))
        simulate(spiking, tensor_batches(judge, 32), steps, [observer], Folded())
        shares.append((observer.answers == answers).double().mean().item())
    return sum(shares) / len(shares)


def rank(
    pool: Sequence[Candidate], settings: Sequence[Setting], inputs: int
) -> list[tuple[float, Candidate, list[float]]]:
    """Return (mean score, candidate, score per network), best first."""
    scores: list[list[float]] = [[] for _ in pool]
    for setting in settings:
        bench = open_bench(setting)
        fit, judge = bench.calibration[: len(bench.calibration) // 2], bench.calibration[-inputs:]
        for number, candidate in enumerate(pool):
            scores[number].append(agreement(candidate, bench.network, fit, judge, bench))
            if number % 20 == 0:
                print(f"{setting.task} {setting.model}: {number} of {len(pool)}", file=sys.stderr, flush=True)
    rows = [(sum(score) / len(score), candidate, score) for score, candidate in zip(scores, pool, strict=True)]
    return sorted(rows, key=lambda row: -row[0])


def main(arguments: Sequence[str]) -> None:
    """Run the rounds and print the best of each."""
    small = Options(calibration=256)
    rounds = [([Setting("digits", "cnn", small)], 64, 60)]
    rounds.append(([Setting("cifar100", "vgg-small", small), Setting("cifar100", "resnet-small", small)], 96, 10))
    if arguments:
        full = Options(profile="full", data=Path(arguments[0]), calibration=256, epochs=12)
        rounds.append(([Setting("cifar10", "resnet20-he", full)], 128, 6))
    pool = list(candidates())
    for settings, inputs, keep in rounds:
        ranked = rank(pool, settings, inputs)
        print(f"\n{len(pool)} candidates, {inputs} judged calibration inputs of each network, T = {STEPS}\n")
        columns = [
            "threshold",
            "neuron",
            "start",
            "correction",
            "pool",
            "mean",
            *(f"{s.task} {s.model}" for s in settings),
        ]
        rows = [[*c.name, f"{100 * mean:.1f}", *(f"{100 * s:.1f}" for s in scores)] for mean, c, scores in ranked[:12]]
        print(tabulate(rows, columns, tablefmt="github", disable_numparse=True), flush=True)
        pool = [candidate for _, candidate, _ in ranked[:keep]]


if __name__ == "__main__":
    main(sys.argv[1:])
