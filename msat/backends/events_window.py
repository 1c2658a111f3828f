"""Neurons that read a whole run before they send (parallel conversion, SpikeConverter): their currents are summed first."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from msat.backends.base import Traffic
from msat.backends.events_lists import EventTraffic
from msat.backends.events_stages import SlicedState, TorchRunner
from msat.neurons import Population

TRIAL = 3
"""Steps of the run that shows what a neuron reads."""
SHAPES_ONLY = {"zeros_like", "ones_like", "empty_like", "full_like", "new_zeros", "new_ones", "new_empty", "new_full"}
VIEWS = {"select", "slice", "unsqueeze", "detach", "alias"}


class WindowRunner(TorchRunner):
    """The population's own PyTorch code for a whole run, a few inputs at a time.

    Synapses are linear, so the sum of a run's currents is the current of its summed spikes: where the population reads
    nothing else, one pass of the synapses serves for all steps.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.sums = reads_only_the_sum(self.population, self.shape)

    def advance(
        self, sources: Sequence[Traffic], state: Any, samples: Tensor, first: int, count: int
    ) -> tuple[Traffic, Any]:
        currents = self.window(sources, len(samples), first, count)
        if not isinstance(state, SlicedState):
            state = self.sliced(currents[0], state, samples)
        traffic: EventTraffic | None = None
        parts = []
        for begin, part in zip(range(0, len(samples), state.size), state.parts, strict=True):
            emission, part = self.population.scan(currents[:, begin : begin + state.size], part)
            traffic = self.compact(emission, traffic, len(samples), 0, count, begin)
            parts.append(part)
        assert traffic is not None
        return traffic, SlicedState(tuple(parts), state.size)

    def window(self, sources: Sequence[Traffic], batch: int, first: int, count: int) -> Tensor:
        """Return the currents of the run [T, B, ...], or at every step their mean where only their sum is read."""
        constant = self.currents.constant
        if not self.sums or constant:
            parts = [part for _, _, part in self.currents.parts(sources, batch, first, count, count)]
            return parts[0] if len(parts) == 1 else torch.cat(parts)
        share = torch.full((count,), 1 / count)
        stage = self.synapses.stage
        current = stage.stage.synapses(*(source.totals(0, count, share)[0] for source in sources))
        current = current if stage.offset is None else current + stage.offset
        return current.expand(count, *current.shape)


class _Reader(TorchDispatchMode):
    """Looks whether currents are read in another way than as a sum over the steps."""

    def __init__(self, currents: Tensor) -> None:
        super().__init__()
        self.currents, self.kept = currents, [currents]
        self.otherwise = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        values = [*args, *(kwargs or {}).values()]
        values += [x for value in values if isinstance(value, list | tuple) for x in value]
        if not any(value is kept for value in values for kept in self.kept) or name in SHAPES_ONLY:
            return result
        if name in VIEWS and isinstance(result, Tensor):
            self.kept.append(result)
        elif not (name == "sum" and args[0] is self.currents and list(args[1]) == [0]):
            self.otherwise = True
        return result


def reads_only_the_sum(population: Population, shape: tuple[int, ...]) -> bool:
    """Return whether a population's `scan` takes nothing from currents [T, B, ...] but their sum over the steps."""
    currents = torch.zeros(TRIAL, 1, *shape)
    state = population.start(currents[0], torch.zeros(1, dtype=torch.int64))
    with _Reader(currents) as reader:
        population.scan(currents, state)
    return not reader.otherwise
