"""Training: resuming changes nothing, checkpoints are found again, and damaged files are refused in one sentence."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor, nn

import msat.training as training
from msat.errors import MissingData, UserError
from msat.examples import Examples
from msat.recorded import WARM_UP, Recorded, recordable
from msat.task import CHAIN, Data, ModelSpec, Profile, Provenance, Recipe, Task, TensorSplit
from msat.training import Progress, _Run, batches, checkpoint_path, evaluate, learning_rate, train, weights_hash

RECIPE = Recipe(epochs=3, learning_rate=0.05, schedule="one-cycle", batch=16, augment=("jitter",))


class Squares(Task):
    """Bright or dark pictures: two classes that a tiny network learns in three epochs."""

    name = "squares"
    title = "Squares"
    modality: Literal["image"] = "image"

    def models(self, profile: Profile) -> Mapping[str, ModelSpec]:
        return {"net": ModelSpec(build, RECIPE, 8, CHAIN)}

    def load(self, profile: Profile, folder: Path | None) -> Data:
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(70) % 2
        noise = torch.randint(120, (70, 1, 4, 4), generator=generator)
        images = (noise + 100 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
        provenance = Provenance("sample", "squares")
        return Data(TensorSplit(images, labels), TensorSplit(images[:25], labels[:25]), ("dark", "bright"), provenance)

    def prepare(self, inputs: Tensor) -> Tensor:
        return inputs.float() / 128 - 1

    def augment(self, inputs: Tensor, names: Sequence[str], generator: torch.Generator) -> Tensor:
        if "jitter" not in names:
            return super().augment(inputs, names, generator)
        return inputs // 2 + torch.randint(100, inputs.shape, generator=generator, dtype=torch.uint8)


def build(data: Data) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(16, len(data.classes)),
    )


TASK = Squares()
DATA = TASK.load("sample", None)
SPEC = TASK.models("sample")["net"]


class Interrupted(Exception):
    """Stands for a kill."""


def fit(folder: Path, spec: ModelSpec = SPEC, **options: object) -> tuple[nn.Module, training.TrainingInfo]:
    return train(TASK, "net", spec, DATA, folder=folder, **options)  # type: ignore[arg-type]


def interrupt(at: int, reports: list[Progress]) -> training.Report:
    """Return a report function that raises at its `at`-th call, as a kill would end the process."""

    def report(progress: Progress) -> None:
        reports.append(progress)
        if len(reports) == at:
            raise Interrupted

    return report


def test_learns_and_says_how(tmp_path: Path) -> None:
    reports: list[Progress] = []
    network, info = fit(tmp_path, report=reports.append)
    assert not network.training
    assert info.origin == "trained"
    assert info.weights == weights_hash(network)
    assert info.epochs == 3
    assert info.recipe == RECIPE
    assert [progress.epoch for progress in reports] == [1, 2, 3]
    assert reports[-1].seconds_left == 0
    assert (reports[-1].loss, reports[-1].accuracy) == (info.loss, info.accuracy)
    assert evaluate(network, TASK, DATA.test) > 20
    assert [file.suffix for file in tmp_path.iterdir()] == [".safetensors"]


def test_a_shipped_checkpoint_goes_before_training(tmp_path: Path) -> None:
    _, first = fit(tmp_path / "shipped")
    _, second = fit(tmp_path / "mine", shipped=tmp_path / "shipped")
    assert (second.origin, second.weights) == ("cached", first.weights)
    assert not (tmp_path / "mine").exists()


def test_what_is_stored_in_half_precision_is_what_is_measured(tmp_path: Path) -> None:
    network, _ = fit(tmp_path)
    assert all(torch.equal(value, value.half().float()) for value in network.state_dict().values() if value.dim() > 1)


def test_short_trainings_are_gentle() -> None:
    strong = replace(RECIPE, epochs=30, gentle=())
    assert strong.lasting(10).augment == RECIPE.augment
    assert strong.lasting(9).augment == ()
    assert RECIPE.lasting(1).augment == RECIPE.augment


def test_second_call_reads_the_checkpoint(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    trained, first = fit(tmp_path)
    cached, second = fit(tmp_path)
    assert (first.origin, second.origin) == ("trained", "cached")
    assert replace(first, origin="cached") == second
    assert weights_hash(trained) == weights_hash(cached)
    assert torch.equal(before, torch.get_rng_state()), "the global generator must stay as it was"


@pytest.mark.parametrize("at", [2, 4, 6])
def test_resumed_training_equals_an_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    _, whole = fit(tmp_path / "whole")
    monkeypatch.setattr(training, "SAVE_SECONDS", -1.0)  # after every step
    monkeypatch.setattr(training, "REPORT_SECONDS", -1.0)
    reports: list[Progress] = []
    with pytest.raises(Interrupted):
        fit(tmp_path / "broken", report=interrupt(at, reports))
    assert [file.suffix for file in (tmp_path / "broken").iterdir()] == [".unfinished"]
    seen = len(reports)
    _, resumed = fit(tmp_path / "broken", report=reports.append)
    assert len(reports) - seen == 12 - at, "what was done is not done again"
    assert (resumed.weights, resumed.loss, resumed.accuracy) == (whole.weights, whole.loss, whole.accuracy)
    assert not list((tmp_path / "broken").glob("*.unfinished"))


def test_key_holds_all_that_determines_the_weights(tmp_path: Path) -> None:
    fewer = Data(DATA.test, DATA.test, DATA.classes, DATA.provenance)
    paths = {
        checkpoint_path(TASK, "net", RECIPE, DATA, 0, tmp_path),
        checkpoint_path(TASK, "net", RECIPE, DATA, 1, tmp_path),
        checkpoint_path(TASK, "other", RECIPE, DATA, 0, tmp_path),
        checkpoint_path(TASK, "net", replace(RECIPE, epochs=4), DATA, 0, tmp_path),
        checkpoint_path(TASK, "net", RECIPE, fewer, 0, tmp_path),
    }
    assert len(paths) == 5
    assert all(path.name.startswith("squares-") for path in paths)


def test_seeds_give_different_weights(tmp_path: Path) -> None:
    assert fit(tmp_path, seed=0)[1].weights != fit(tmp_path, seed=1)[1].weights


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes | None) -> None:
    _, info = fit(tmp_path)
    assert info.file is not None
    info.file.write_bytes(info.file.read_bytes()[:-10] if content is None else content)
    with pytest.raises(UserError, match=r"checkpoint .* is damaged .*; delete it to train anew\.$"):
        fit(tmp_path)


def test_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    fit(tmp_path)
    other = replace(SPEC, build=lambda data: nn.Sequential(nn.Flatten(), nn.Linear(16, len(data.classes))))
    with pytest.raises(UserError, match="does not fit the network; delete it to train anew"):
        fit(tmp_path, other)


def test_damaged_unfinished_training_is_refused(tmp_path: Path) -> None:
    checkpoint_path(TASK, "net", RECIPE, DATA, 0, tmp_path).with_suffix(".unfinished").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"unfinished training .* is damaged; delete it to start anew"):
        fit(tmp_path)


@pytest.mark.parametrize("together", [1, 3, 4])
def test_examples_do_not_depend_on_where_a_training_goes_on(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    monkeypatch.setattr(Examples, "together", together)
    examples = Examples(DATA.train, TASK, RECIPE, 1, torch.device("cpu"))
    assert examples.per_epoch == 4
    whole = list(examples.stream(0, 12))
    assert len(whole) == 12
    assert len({inputs.sum().item() for inputs, _ in whole}) == 12
    for first in (1, 3, 6, 11):
        for (inputs, labels), (again, same) in zip(examples.stream(first, 12), whole[first:], strict=True):
            assert torch.equal(inputs, again) and torch.equal(labels, same)


def test_examples_made_at_once_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = partial(Examples, DATA.train, TASK, RECIPE, 1)
    assert examples(torch.device("cpu")).together == 1
    assert examples(torch.device("cuda")).together == 4
    monkeypatch.setattr("msat.examples.VALUES", 2 * 16 * 16)
    assert examples(torch.device("cuda")).together == 2


def test_recurrent_networks_are_not_recorded() -> None:
    cuda = torch.device("cuda")
    assert recordable(build(DATA), cuda)
    assert not recordable(nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 3)), cuda)
    assert not recordable(build(DATA), torch.device("cpu"))


class Graph:
    """Stands for a CUDA graph: notes in a capture what is to be done, and does it in each replay."""

    def __init__(self) -> None:
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1


def test_updates_are_recorded_once_and_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda _: nullcontext())
    recorded = Recorded(lambda inputs, labels: seen.append(float(inputs.sum() + labels.sum())))
    for number in range(6):
        recorded(torch.full((2,), float(number)), torch.tensor([number]))
    assert seen == [0.0, 3.0, 6.0, 9.0]  # three as they are, one recorded
    assert isinstance(recorded.graph, Graph)
    assert recorded.graph.replays == 3
    assert recorded.inputs.tolist() == [5.0, 5.0]
    assert recorded.labels.tolist() == [5]


def test_what_cannot_be_recorded_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Tensor) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    for name in ("Stream", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    monkeypatch.setattr(torch.cuda, "graph", lambda _: nullcontext())
    recorded = Recorded(refuse)
    recorded.done = WARM_UP
    with pytest.raises(UserError, match=r"CUDA graph \(operation not permitted when stream is capturing\); have its"):
        recorded(torch.zeros(1), torch.zeros(1))


def test_a_training_begun_on_a_gpu_goes_on_on_a_cpu(tmp_path: Path) -> None:
    """A GPU's optimizer is told that it is recorded; a CPU's must not be."""
    recipe = replace(RECIPE, optimizer="adam", learning_rate=0.01)
    runs = [_Run(build(DATA), TASK, recipe, DATA, 1, torch.device("cpu")) for _ in range(2)]
    for inputs, labels in runs[0].examples.stream(0, 2):
        runs[0]._step(inputs, labels)
    runs[0].optimizer.param_groups[0]["capturable"] = True
    runs[0]._save(tmp_path / "begun.unfinished")
    runs[1].restore(tmp_path / "begun.unfinished")
    assert runs[1].optimizer.param_groups[0]["capturable"] is False
    runs[1]._step(inputs, labels)
    assert all(torch.isfinite(weight).all() for weight in runs[1].network.parameters())


def test_a_step_s_labels_do_not_depend_on_how_many_steps_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = []
    for together in (1, 3, 4):
        monkeypatch.setattr(Examples, "together", together)
        examples = Examples(DATA.train, TASK, RECIPE, 1, torch.device("cpu"))
        labels.append(torch.stack([part for _, part in examples.stream(0, 12)]))
    assert torch.equal(labels[0], labels[1]) and torch.equal(labels[0], labels[2])


def test_unknown_augmentation_is_refused(tmp_path: Path) -> None:
    spec = replace(SPEC, recipe=replace(RECIPE, augment=("mirror",)))
    with pytest.raises(UserError, match="task 'squares' knows no augmentation mirror"):
        fit(tmp_path, spec)


def test_diverged_training_is_refused(tmp_path: Path) -> None:
    spec = replace(SPEC, recipe=replace(RECIPE, learning_rate=float("inf")))
    with pytest.raises(UserError, match="training diverged in epoch 1"):
        fit(tmp_path, spec)


def test_adam_and_cosine_train_too(tmp_path: Path) -> None:
    recipe = replace(RECIPE, optimizer="adam", learning_rate=0.01, schedule="cosine", label_smoothing=0.1)
    network, _ = fit(tmp_path, replace(SPEC, recipe=recipe))
    assert evaluate(network, TASK, DATA.test) > 20


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [("cosine", 0, 1.0), ("cosine", 50, 0.5), ("cosine", 100, 0.0), ("one-cycle", 0, 0.05),
     ("one-cycle", 25, 1.0), ("one-cycle", 50, 0.75), ("one-cycle", 100, 0.0)],
)  # fmt: skip
def test_learning_rate(schedule: Literal["cosine", "one-cycle"], step: int, expected: float) -> None:
    recipe = Recipe(epochs=1, learning_rate=1.0, schedule=schedule)
    assert learning_rate(recipe, step, 100) == pytest.approx(expected, abs=1e-9)


def test_batches_hold_every_example_once_in_order() -> None:
    sizes = [len(labels) for _, labels in batches(TASK, DATA.test, 10)]
    inputs = torch.cat([inputs for inputs, _ in batches(TASK, DATA.test, 10)])
    assert sizes == [10, 10, 5]
    assert torch.equal(inputs, TASK.prepare(DATA.test.take(torch.arange(25))))


def test_evaluation_counts_and_does_not_depend_on_the_batch() -> None:
    network = build(DATA)
    counts = {evaluate(network, TASK, DATA.test, batch) for batch in (1, 7, 25)}
    logits = network.eval()(TASK.prepare(DATA.test.take(torch.arange(25))))
    assert counts == {int((logits.argmax(1) == DATA.test.labels).sum())}


def test_pretrained_weights_are_loaded_or_random_on_request(tmp_path: Path) -> None:
    def weights(network: nn.Module, folder: Path) -> Path | None:
        file = folder / "net.pth"
        if file.exists():
            network.load_state_dict(torch.load(file, weights_only=True))
        return file if file.exists() else None

    spec = replace(SPEC, weights=weights)
    with pytest.raises(MissingData, match="no pretrained weights for model 'net' of task 'squares'"):
        fit(tmp_path, spec, data_folder=tmp_path)
    assert fit(tmp_path, spec, pretrained=False)[1].origin == "random"
    source = build(DATA)
    torch.save(source.state_dict(), tmp_path / "net.pth")
    _, info = fit(tmp_path, spec, data_folder=tmp_path)
    assert (info.origin, info.weights) == ("pretrained", weights_hash(source))
