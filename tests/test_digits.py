"""Every method on a network trained on real handwritten digits: near the ANN's accuracy at large T, and the order theory demands."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from benchmarks.plugins import registry
from msat.backends import Folded
from msat.calibration import Calibration
from msat.conversion import convert
from msat.method import MethodFactory
from msat.network import Network
from msat.observers import Accuracy
from msat.simulation import simulate, tensor_batches
from msat.task import Task
from msat.tracing import trace
from msat.training import train

STEPS = 64
EXEMPT = {
    "msat-rest": "in raw units a layer with a large maximum rests at a tiny threshold and saturates",
}
SLACK = {
    "maximum-hard": 3,  # what exceeds the threshold is thrown away, so rates stay biased: 118 or 119 of 120 from T = 32 to 256
}
"""Digits of 120 that a method may miss at large T, where it is not the one of everyone else."""
METHODS = registry().methods
QUICK = {"calibration-weights": {"iterations": 20}, "ltb": {"iterations": 200}, "ltb-exact": {}}
"""Parameters that only save time."""


class Digits(NamedTuple):
    """A trained network with calibration and test inputs."""

    network: Network
    calibration: Tensor
    test: Tensor
    labels: Tensor
    answers: Tensor


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    """A small CNN with max-pools, briefly trained, and 120 test digits."""
    task: Task = registry().task("digits")
    data = task.load("sample", None)
    name, spec = task.model("sample", "cnn")
    module, _ = train(task, name, spec, data, folder=tmp_path_factory.mktemp("checkpoints"))
    calibration = task.prepare(data.calibration(128).take(torch.arange(128)))
    test = task.prepare(data.test.take(torch.arange(120)))
    network = trace(module, calibration)
    return Digits(network, calibration, test, data.test.labels[:120], network(test).argmax(1))


def right(factory: MethodFactory, digits: Digits, steps: int, at: tuple[int, ...], **parameters: Any) -> list[int]:
    """Return how many of the 120 digits a method gets right at some steps."""
    chosen = factory(**QUICK.get(factory.name, {}) | parameters)
    network = convert(chosen, Calibration(digits.network, digits.calibration, steps))
    accuracy = Accuracy(digits.labels, digits.answers, steps)
    simulate(network, tensor_batches(digits.test, 120), steps, [accuracy], Folded())
    return [int(accuracy.correct[t - 1]) for t in at]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_reaches_the_ann_at_large_t(name: str, digits: Digits) -> None:
    """Within 1 point of the ANN (here: one digit of 120), or the reason why not."""
    ann = int((digits.answers == digits.labels).sum())
    found = right(METHODS[name], digits, STEPS, (STEPS,))[0]
    if name in EXEMPT:
        assert found < ann - 1, f"{name} reaches the ANN: take it off the list of exemptions"
    else:
        assert found >= ann - SLACK.get(name, 1)


@pytest.mark.parametrize(("better", "worse"), [("half-start", "maximum"), ("calibration-light", "calibration-none")])
def test_published_orders_hold_on_average(better: str, worse: str, digits: Digits) -> None:
    """Summed over T = 2, 4, ..., 32: single T differ by a digit or two either way."""
    steps = (2, 4, 8, 16, 32)

    def total(name: str) -> int:
        factory = METHODS[name]
        if factory.recalibrate_per_T:
            return sum(right(factory, digits, t, (t,))[0] for t in steps)
        return sum(right(factory, digits, 32, steps))

    assert total(better) > total(worse)


def test_differential_coding_is_there_at_eight_steps(digits: Digits) -> None:
    ann = int((digits.answers == digits.labels).sum())
    assert right(METHODS["dcgs"], digits, 8, (8,))[0] >= ann - 2


def test_burst_of_one_and_percentile_are_one_method(digits: Digits) -> None:
    steps = (4, 16, 64)
    one = right(METHODS["burst"], digits, 64, steps, cap=1, percentile=99.9, nonzero=True)
    assert one == right(METHODS["percentile"], digits, 64, steps)
