"""Binary spikes on tensor cores at fp32's accuracy: weights split into bf16 terms, whose products with 0 and 1 are exact.

A spike 0/1 is exact in bf16, and so is each term of the weight; sums are kept in fp32. What limits the accuracy is the
weight alone: its relative error is 2^-16 with two terms, and with three that of fp32. PyTorch rounds the result of a
bf16 convolution to bf16, so the terms are multiplied as TF32, of which bf16 numbers are a part, with fp32 results; the
tensor cores then run at half the rate of bf16.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from msat.backends.base import DenseTraffic
from msat.backends.events_dense import Dense
from msat.backends.events_lists import channels_first
from msat.backends.events_pack import with_batch
from msat.backends.events_plan import Chain, Expression, Unmatched, plan
from msat.network import SpikingNetwork, SpikingStage
from msat.neurons import Emission, IntegrateAndFire, Population
from msat.pooling import LateralInhibitionPool

LARGEST_POOL = 256
"""Pixels of an average pool whose mean of spikes is a bf16 number; their count must be a power of two."""


def split_bf16(weight: Tensor, terms: int) -> list[Tensor]:
    """Return tensors in the weight's type that hold bf16 numbers and sum up to it: to 2^-8 with one, 2^-16 with two terms."""
    parts, rest = [], weight
    for _ in range(terms):
        parts.append(rest.bfloat16().to(weight))
        rest = rest - parts[-1]
    return parts


@contextmanager
def tensor_float(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in convolutions and matrix products on a GPU; PyTorch by itself allows it in convolutions."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


class SpikeTraffic(DenseTraffic):
    """Spikes 0 and 1 instead of outputs.

    Args:
        emission: the spikes, as its output.
        scale: value of a spike by channel, activation units: [C].
    """

    def __init__(self, emission: Emission, scale: Tensor) -> None:
        super().__init__(emission)
        self.scale = scale

    def output(self) -> Tensor:
        spikes = self.emission.output
        return spikes * self.scale.view(-1, *[1] * (spikes.dim() - 3))

    def spikes(self) -> Tensor:
        return self.emission.output


@dataclass(frozen=True, eq=False)
class Unit(Population):
    """An IF neuron that sends 1 for a spike; its potential stays in activation units."""

    inner: IntegrateAndFire
    plain: ClassVar[bool] = True

    def start(self, current: Tensor, samples: Tensor) -> Any:
        return self.inner.start(current, samples)

    def step(self, current: Tensor, state: Any) -> tuple[Emission, Any]:
        emission, state = self.inner.step(current, state)
        return Emission(emission.output / self.inner.threshold), state


class SplitSynapses:
    """Currents of one stage from the spikes 0/1 of its sources.

    Args:
        stage: the stage.
        shapes: one input's neurons for each source.
        scales: value of a spike by channel for each source.
        shape: one input's neurons of the stage itself.
        terms: bf16 terms of a weight.

    Raises:
        Unmatched: the expression is not a sum of convolutions, linear layers and shortcuts.
    """

    def __init__(
        self,
        stage: SpikingStage,
        shapes: Sequence[tuple[int, ...]],
        scales: Sequence[Tensor],
        shape: tuple[int, ...],
        terms: int,
    ) -> None:
        expression = plan(stage.stage.synapses, shapes)
        chains: list[Chain] = []
        for chain in expression.chains:
            layer, area = chain.convolution, chain.pool[0] * chain.pool[1]
            if area & (area - 1) or area > LARGEST_POOL:
                raise Unmatched("an average pool whose means are not bf16 numbers")
            if layer is None:  # a shortcut: reads outputs, which follow the spikes in the list of maps
                chains.append(replace(chain, source=chain.source + len(scales)))
                continue
            # A grouped convolution's weight has the input channels of one group each; group g holds its own scales.
            groups, outputs = layer.groups, len(layer.weight)
            value = scales[chain.source].view(groups, 1, -1).expand(-1, outputs // groups, -1).flatten(0, 1)
            for term in split_bf16(layer.weight.detach() * value[:, :, None, None], terms):
                chains.append(replace(chain, convolution=replace(layer, weight=term)))
        self.shortcuts = any(chain.convolution is None for chain in expression.chains)
        offset = None if stage.offset is None else with_batch(stage.offset, len(shape))
        self.dense = Dense(Expression(tuple(chains), expression.bias), offset)
        self.scales, self.shape = scales, shape

    def __call__(self, spikes: Sequence[Tensor]) -> Tensor:
        """Return currents [T, B, ...] for spikes [T, B, ...]."""
        maps = [_map(x) for x in spikes]
        if self.shortcuts:
            maps += [x * scale for x, scale in zip(maps, self.scales, strict=True)]
        with tensor_float(True):
            current = self.dense(maps)
        return channels_first(current.unflatten(0, spikes[0].shape[:2]), self.shape)


class Split:
    """Which stages of a network send spikes of one value for each channel, and which of them can be fed with 0 and 1.

    Args:
        network: the network.
        terms: bf16 terms of a weight.
    """

    def __init__(self, network: SpikingNetwork, terms: int) -> None:
        self.scales: dict[int, Tensor] = {}
        self.synapses: dict[int, SplitSynapses] = {}
        self.populations: dict[int, Population] = {}
        shapes: dict[int, tuple[int, ...]] = {}
        for position, current, output in network.network.trace(network.network.example):
            shapes[position] = tuple(output.shape[1:])
            stage, sources = network.stages[position], network.stages[position].stage.sources
            scales = [self.scales[source] for source in sources if source in self.scales]
            spiking = len(scales) == len(sources)
            scale = binary(stage.population, tuple(current.shape[1:]))
            if scale is not None:
                self.scales[position] = scale
                self.populations[position] = Unit(stage.population)  # type: ignore[arg-type]
            if spiking and isinstance(stage.stage.synapses, nn.Identity) and stage.offset is None:
                if isinstance(stage.population, LateralInhibitionPool):
                    self.scales[position] = scales[0]  # a maximum of 0 and 1, whatever they stand for
            elif spiking:
                try:
                    incoming, shape = [shapes[source] for source in sources], tuple(current.shape[1:])
                    self.synapses[position] = SplitSynapses(stage, incoming, scales, shape, terms)
                except Unmatched:
                    continue  # fp32, as all stages with other sources

    def pools(self, position: int) -> bool:
        """Return whether a stage is a max-pool of spikes."""
        return position in self.scales and position not in self.populations


def binary(population: Population, shape: tuple[int, ...]) -> Tensor | None:
    """Return the value of a spike by channel [C] of integrate-and-fire neurons; None for others, and if neurons differ."""
    if type(population) is not IntegrateAndFire:
        return None
    theta = with_batch(population.threshold.detach(), len(shape))
    if any(n > 1 for n in theta.shape[2:]):
        return None
    return theta.reshape(-1).expand(shape[0])


def _map(spikes: Tensor) -> Tensor:
    """Return [T, B, C, ...] as [T x B, height, width, C]."""
    frames = spikes.flatten(0, 1)
    spread = frames.view(*frames.shape[:2], *[1] * (4 - frames.dim()), *frames.shape[2:])
    return spread.permute(0, 2, 3, 1)
