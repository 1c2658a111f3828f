"""Runs a spiking network for T steps: streams chunks of time through its stages and feeds observers, which keep counts only."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from msat.backends.base import Backend, Traffic
from msat.errors import UserError
from msat.network import SpikingNetwork, SpikingStage, last_use

Batch = tuple[Tensor, Tensor]
"""Prepared inputs [B, ...] and their numbers in the data set, int64 [B]."""


@dataclass(frozen=True)
class Chunk:
    """What one stage did in some consecutive steps, as observers see it."""

    position: int
    stage: SpikingStage
    first: int
    """Steps that lie before this chunk."""
    traffic: Traffic
    samples: Tensor
    state: Any
    """The population's state after the chunk; dense backends only, else None."""


class Observer:
    """Looks at every chunk and keeps counts; memory must not grow with T times the test set."""

    def see(self, chunk: Chunk) -> None:
        """Take note of one stage's chunk."""

    def first_pass(self, chunk: Chunk) -> None:
        """Take note of one stage's chunk in a pass before step 1 (SRP, COS)."""

    def batch_done(self, inputs: Tensor, samples: Tensor) -> None:
        """Take note that all steps of a batch are over."""


@torch.no_grad()
def simulate(
    network: SpikingNetwork,
    batches: Iterable[Batch],
    steps: int,
    observers: Sequence[Observer],
    backend: Backend,
) -> None:
    """Simulate every batch for `steps` steps; all state is made anew for each batch.

    Results do not depend on how time is cut into chunks nor on the batch size.

    Raises:
        UserError: steps < 1.
    """
    if steps < 1:
        raise UserError(f"the number of time steps must be at least 1, got {steps}; set STEPS=1 or more.")
    session = backend.open(network)
    last = last_use([stage.stage for stage in network.stages])
    whole = any(stage.population.window for stage in network.stages)
    for inputs, samples in batches:
        states: list[Any] = [None] * len(network.stages)
        if network.warm_up:
            states = list(network.warm_up.states(network, inputs, samples, partial(_first_pass, observers)))
        constants = network.network.front(inputs)
        for first, count in chunks(steps, steps if whole else session.chunk_steps(len(inputs))):
            sent = {-1 - k: session.constant(c, first, count) for k, c in enumerate(constants)}
            for position, stage in enumerate(network.stages):
                sources = [sent[source] for source in stage.stage.sources]
                traffic, states[position] = session.advance(position, sources, states[position], samples, first, count)
                for observer in observers:
                    observer.see(Chunk(position, stage, first, traffic, samples, states[position]))
                sent[position] = traffic
                sent = {source: t for source, t in sent.items() if last.get(source, -1) > position}
        session.close_batch()
        for observer in observers:
            observer.batch_done(inputs, samples)


def _first_pass(observers: Sequence[Observer], chunk: Chunk) -> None:
    for observer in observers:
        observer.first_pass(chunk)


def chunks(steps: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut `steps` into (steps before, steps in the chunk)."""
    return ((first, min(size, steps - first)) for first in range(0, steps, size))


def tensor_batches(inputs: Tensor, size: int) -> Iterator[Batch]:
    """Cut prepared inputs [N, ...] into batches numbered from 0; the last may be smaller."""
    numbers = torch.arange(len(inputs), device=inputs.device)
    return zip(inputs.split(size), numbers.split(size), strict=True)
