"""The examples of each training step, taken in a seeded order and changed at random: a function of (seed, step) alone."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from msat.errors import UserError
from msat.randomness import seed_for
from msat.task import Recipe, Split, Task

WORKERS = 8
"""Most processes that make examples beside a GPU: AutoAugment takes a CPU core 40 ms for 128 pictures."""


@dataclass(frozen=True)
class Examples(Dataset[tuple[Tensor, Tensor]]):
    """Stored examples [batch, ...] and labels int64 [batch] by the number of the step, from 0."""

    train: Split
    task: Task
    recipe: Recipe
    seed: int

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch; what does not fill a batch waits for another epoch's order."""
        return max(1, len(self.train) // self.recipe.batch)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        first = step % self.per_epoch * self.recipe.batch
        order = _order(len(self.train), seed_for(self.seed, "epoch", step // self.per_epoch))
        indices = order[first : first + self.recipe.batch]
        generator = torch.Generator().manual_seed(seed_for(self.seed, "step", step))
        stored = self.task.augment(self.train.take(indices), self.recipe.augment, generator)
        return stored, self.train.labels[indices]


def stream(examples: Examples, first: int, steps: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the examples of the steps from `first` to `steps` - 1 in order, made ahead by `workers` processes (0: none).

    Raises:
        UserError: the recipe names an augmentation that the task does not know, or the data cannot be read.
    """
    loader = DataLoader(
        _Carried(examples), batch_size=None, sampler=range(first, steps), num_workers=workers,
        pin_memory=workers > 0 and torch.cuda.is_available(),
        # Forked, the processes share the data in memory, and know tasks that come from a plugin's file.
        multiprocessing_context="fork" if workers else None,
    )  # fmt: skip
    for made in loader:
        if isinstance(made, UserError):
            raise made
        yield made


def workers_for(device: torch.device) -> int:
    """Return how many processes make examples: none on a CPU, which the training itself fills."""
    return 0 if device.type == "cpu" else min(WORKERS, len(os.sched_getaffinity(0)))


@dataclass(frozen=True)
class _Carried(Dataset[tuple[Tensor, Tensor] | UserError]):
    """Hands a user's error over as a value: raised in a worker, it would come out wrapped in a traceback."""

    examples: Examples

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor] | UserError:
        try:
            return self.examples[step]
        except UserError as error:
            return error


@lru_cache(maxsize=1)
def _order(length: int, seed: int) -> Tensor:
    return torch.randperm(length, generator=torch.Generator().manual_seed(seed))
