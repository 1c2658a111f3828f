"""The examples of each training step, taken in a seeded order and changed at random: a function of seed, step and device."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from msat.randomness import seed_for
from msat.task import Recipe, Split, Task

TOGETHER = 400
"""Most steps whose examples a GPU makes at once: changing 128 pictures takes it as long as changing 50,000."""
VALUES = 200_000_000
"""Most values of them: 800 MB as float32."""


@dataclass(frozen=True)
class Examples:
    """Prepared inputs [batch, ...] and labels int64 [batch] of each step, on the device; steps count from 0."""

    train: Split
    task: Task
    recipe: Recipe
    seed: int
    device: torch.device

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch; what does not fill a batch waits for another epoch's order."""
        return max(1, len(self.train) // self.recipe.batch)

    @cached_property
    def together(self) -> int:
        """Steps whose examples are made at once; their random changes come from one seed, so they depend on this number."""
        if self.device.type == "cpu":
            return 1
        values = self.recipe.batch * self.train.take(torch.arange(1)).numel()
        return max(1, min(TOGETHER, self.per_epoch, VALUES // values))

    def stream(self, first: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the examples of the steps from `first` to `steps` - 1 in order.

        Raises:
            UserError: the recipe names an augmentation that the task does not know, or the data cannot be read.
        """
        while first < steps:
            place = first % self.per_epoch
            begin = first - place % self.together
            made = self._made(begin)[first - begin : steps - begin]
            yield from made
            first += len(made)

    def _made(self, begin: int) -> list[tuple[Tensor, Tensor]]:
        """Make the examples of the steps from `begin` on, as many as are made at once in its epoch."""
        batch, place = self.recipe.batch, begin % self.per_epoch
        order = _order(len(self.train), seed_for(self.seed, "epoch", begin // self.per_epoch))
        indices = order[place * batch : min(place + self.together, self.per_epoch) * batch]
        generator = torch.Generator().manual_seed(seed_for(self.seed, "step", begin))
        stored = self.task.augment(self.train.take(indices).to(self.device), self.recipe.augment, generator)
        labels = self.train.labels[indices].to(self.device)
        return list(zip(self.task.prepare(stored).split(batch), labels.split(batch), strict=True))


@lru_cache(maxsize=1)
def _order(length: int, seed: int) -> Tensor:
    return torch.randperm(length, generator=torch.Generator().manual_seed(seed))
