"""Trains the networks of a task once and keeps checkpoints; an interrupted training goes on where it was."""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from msat.checkpoints import UNREADABLE, checkpoint_path, load_checkpoint, save_checkpoint, weights_hash
from msat.errors import MissingData, UserError
from msat.examples import Examples
from msat.randomness import seed_for
from msat.recorded import Recorded, Update, recordable
from msat.task import Data, ModelSpec, Recipe, Split, Task

CHECKPOINTS = Path(".cache/checkpoints")
SAVE_SECONDS = 60.0
"""A training that is killed loses at most about this much of its work."""
REPORT_SECONDS = 2.0
MOMENTUM = 0.9
WARM_UP = 0.25
"""Share of a one-cycle schedule in which the learning rate rises."""
CLIP_NORM = 5.0
"""Largest gradient norm; out of reach for the convolutional networks, needed by the recurrent ones."""


@dataclass(frozen=True)
class Progress:
    """What a training tells its `report` function."""

    epoch: int
    """The epoch under way, from 1."""
    epochs: int
    loss: float
    """Mean over this epoch's examples so far."""
    accuracy: float
    """Share of this epoch's (augmented) training examples that were right, 0 to 1."""
    seconds_left: float


Report = Callable[[Progress], None]


@dataclass(frozen=True)
class TrainingInfo:
    """Where a network's weights come from."""

    origin: Literal["trained", "cached", "pretrained", "random"]
    file: Path | None
    weights: str
    """Hash of all parameters and buffers (see `weights_hash`)."""
    seed: int
    recipe: Recipe | None = None
    epochs: int = 0
    loss: float | None = None
    """Mean training loss of the last epoch."""
    accuracy: float | None = None
    """Share of the last epoch's (augmented) training examples that were right, 0 to 1."""
    seconds: float = 0.0
    """Wall time of the training, interruptions left out."""


def train(
    task: Task,
    name: str,
    spec: ModelSpec,
    data: Data,
    *,
    seed: int = 0,
    folder: Path = CHECKPOINTS,
    shipped: Path | None = None,
    device: str | torch.device = "cpu",
    report: Report | None = None,
    data_folder: Path | None = None,
    pretrained: bool = True,
) -> tuple[nn.Module, TrainingInfo]:
    """Return a task's network, trained, in evaluation mode on `device`, and where its weights come from.

    Args:
        task: the task, for `prepare` and `augment`.
        name: the network's name, part of the checkpoint's key.
        spec: how to build and train it; one with `weights` is loaded instead.
        data: the splits; only the train split is used.
        seed: of the initial weights, the order of examples, augmentation and dropout.
        folder: where checkpoints are kept.
        shipped: where checkpoints of published figures lie; one that fits is read instead of training.
        device: where to train and where the network is returned.
        report: receives the progress every few seconds.
        data_folder: `DATA=`, searched for pretrained weights.
        pretrained: False gives a network with `weights` random ones instead, for timing.

    Raises:
        MissingData: the pretrained weights are not there.
        UserError: the checkpoint is damaged or does not fit, or the training diverged.
    """
    device = torch.device(device)
    network = build(spec, data, seed_for(seed, task.name, name))
    if spec.weights is not None:
        return _load_pretrained(task, name, spec, network, seed, data_folder, pretrained, device)
    file = checkpoint_path(task, name, spec.recipe, data, seed, folder)
    if shipped is not None and (shipped / file.name).exists():
        file = shipped / file.name
    origin: Literal["trained", "cached"] = "cached"
    if not file.exists():
        origin = "trained"
        # Another network, as training changes its weights' layout in memory, which rounds otherwise ever after.
        trained = build(spec, data, seed_for(seed, task.name, name))
        _train_to(file, trained, task, spec.recipe, data, seed_for(seed, task.name, name), device, report)
    meta = load_checkpoint(network, file)
    info = TrainingInfo(
        origin, file, weights_hash(network), seed, spec.recipe, spec.recipe.epochs,
        meta["loss"], meta["accuracy"], meta["seconds"],
    )  # fmt: skip
    return network.to(device).eval(), info


def build(spec: ModelSpec, data: Data, seed: int) -> nn.Module:
    """Return the untrained network; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return spec.build(data)


def batches(
    task: Task, split: Split, batch: int, device: str | torch.device = "cpu"
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a split in order: prepared inputs [n, ...], labels int64 [n]; the last batch may be smaller."""
    for first in range(0, len(split), batch):
        indices = torch.arange(first, min(first + batch, len(split)))
        yield task.prepare(split.take(indices).to(device)), split.labels[indices].to(device)


def evaluate(network: nn.Module, task: Task, split: Split, batch: int = 256) -> int:
    """Return how many examples of `split` the network (on its own device) gets right."""
    device = next(network.parameters()).device
    network.eval()
    with torch.inference_mode():
        return sum(
            int((network(inputs).argmax(1) == labels).sum()) for inputs, labels in batches(task, split, batch, device)
        )


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Return the learning rate of a step: half a cosine down to 0, after a linear rise if `one-cycle`."""
    done = step / steps
    if recipe.schedule == "one-cycle":
        if done < WARM_UP:
            return recipe.learning_rate * (0.05 + 0.95 * done / WARM_UP)
        done = (done - WARM_UP) / (1 - WARM_UP)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def _load_pretrained(
    task: Task, name: str, spec: ModelSpec, network: nn.Module, seed: int,
    data_folder: Path | None, pretrained: bool, device: torch.device,
) -> tuple[nn.Module, TrainingInfo]:  # fmt: skip
    file = None
    if pretrained and spec.weights is not None:
        file = spec.weights(network, data_folder or Path())
        if file is None:
            raise MissingData(
                f"no pretrained weights for model '{name}' of task '{task.name}' in {data_folder or 'DATA'}; "
                "put them there or ask for random weights."
            )
    origin: Literal["pretrained", "random"] = "random" if file is None else "pretrained"
    return network.to(device).eval(), TrainingInfo(origin, file, weights_hash(network), seed)


def _train_to(
    file: Path, network: nn.Module, task: Task, recipe: Recipe, data: Data,
    seed: int, device: torch.device, report: Report | None,
) -> None:  # fmt: skip
    """Train and write the checkpoint; the unfinished state lies beside it until then."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    gpus = [device] if device.type == "cuda" else []
    here = torch.cuda.device(device) if gpus else nullcontext()  # recordings are made on the current GPU
    with torch.random.fork_rng(devices=gpus), _fastest_convolutions(), here:
        run = _Run(network, task, recipe, data, seed, device)
        if unfinished.exists():
            run.restore(unfinished)
        run.finish(unfinished, report)
    loss, accuracy = run.means()
    meta = {"loss": loss, "accuracy": accuracy, "seconds": round(run.seconds, 1), "epochs": recipe.epochs,
            "seed": seed, "task": task.name, "recipe": asdict(recipe)}  # fmt: skip
    save_checkpoint(network, file, meta)
    unfinished.unlink(missing_ok=True)


@contextmanager
def _fastest_convolutions() -> Iterator[None]:
    """Let a GPU try the algorithms of each convolution out once; on a CPU nothing changes."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class _Run:
    """One training; every random draw is a function of (seed, step) and the kind of device, so resuming changes nothing."""

    def __init__(
        self, network: nn.Module, task: Task, recipe: Recipe, data: Data, seed: int, device: torch.device
    ) -> None:
        self.network, self.task = network.to(device, memory_format=torch.channels_last), task  # type: ignore[call-overload]
        self.recipe, self.seed, self.device = recipe, seed, device
        self.examples = Examples(data.train, task, recipe, seed, device)
        self.per_epoch = self.examples.per_epoch
        self.steps = self.per_epoch * recipe.epochs
        self.step, self.seconds = 0, 0.0
        self.sums = torch.zeros(3, device=device)
        """This epoch's summed loss, right answers and examples."""
        self.optimizer = _optimizer(self.network, recipe)
        self.rate = torch.zeros((), device=device) if device.type == "cuda" else None
        """The learning rate where a recording reads it."""
        self.loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        self.update: Update = Recorded(self._update) if recordable(network, device) else self._update

    def finish(self, unfinished: Path, report: Report | None) -> None:
        """Do the steps that are left."""
        self.network.train()
        started = saved = reported = time.monotonic()
        before, begun = self.seconds, self.step
        for inputs, labels in self.examples.stream(begun, self.steps):
            if self.step % self.per_epoch == 0:
                self.sums.zero_()
            self._step(inputs, labels)
            self.step += 1
            now = time.monotonic()
            self.seconds = before + now - started
            epoch_ends = self.step % self.per_epoch == 0
            if epoch_ends:
                self._check_loss()
            if now - saved > SAVE_SECONDS and self.step < self.steps:
                self._save(unfinished)
                saved = now
            if report and (epoch_ends or now - reported > REPORT_SECONDS):
                left = (self.steps - self.step) * (now - started) / (self.step - begun)
                report(Progress(-(-self.step // self.per_epoch), self.recipe.epochs, *self.means(), left))
                reported = now

    def means(self) -> tuple[float, float]:
        """Return this epoch's mean loss and share of right answers so far."""
        loss, right, seen = self.sums.tolist()
        return loss / max(seen, 1), right / max(seen, 1)

    def restore(self, unfinished: Path) -> None:
        """Go back to the state that an interrupted run left behind."""
        try:
            state = torch.load(unfinished, map_location=self.device, weights_only=True)
            self.network.load_state_dict(state["network"])
            # Rates, and whether an update can be recorded, are this run's.
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
            self.step, self.seconds = state["step"], state["seconds"]
            self.sums.copy_(state["sums"])
        except UNREADABLE as error:
            raise UserError(f"unfinished training {unfinished} is damaged; delete it to start anew.") from error

    def _save(self, unfinished: Path) -> None:
        state = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(),
                 "step": self.step, "seconds": self.seconds, "sums": self.sums}  # fmt: skip
        temporary = unfinished.with_suffix(f".{os.getpid()}.tmp")
        torch.save(state, temporary)
        temporary.replace(unfinished)

    def _step(self, inputs: Tensor, labels: Tensor) -> None:
        torch.manual_seed(seed_for(self.seed, "step", self.step))  # for dropout
        if inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        rate = learning_rate(self.recipe, self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate if self.rate is None else self.rate.fill_(rate)
        self.update(inputs, labels)

    def _update(self, inputs: Tensor, labels: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=has_bfloat16(self.device)):
            logits = self.network(inputs)
        loss = self.loss(logits.float(), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP_NORM)
        self.optimizer.step()
        right = (logits.detach().argmax(1) == labels).sum()
        self.sums += torch.stack([loss.detach() * len(labels), right, right.new_full((), len(labels))])

    def _check_loss(self) -> None:
        if not math.isfinite(self.means()[0]):
            raise UserError(
                f"training diverged in epoch {self.step // self.per_epoch} (loss is not finite); "
                f"lower the recipe's learning rate {self.recipe.learning_rate}."
            )


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 matrices natively; then training uses them."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters, rate, decay = list(network.parameters()), recipe.learning_rate, recipe.weight_decay
    cuda = parameters[0].is_cuda
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, capturable=cuda)
    # Fused, as a GPU's other ways multiply the gradients by a rate in memory one parameter at a time.
    return torch.optim.SGD(
        parameters, lr=rate, momentum=MOMENTUM, nesterov=True, weight_decay=decay, fused=cuda or None
    )
