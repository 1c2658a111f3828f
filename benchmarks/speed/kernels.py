"""Single layers: gather, scatter and dense at several densities, beside the least time that their weight reads allow."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from benchmarks.speed.measure import paired
from msat.backends.events_lists import Buffer, EventTraffic
from msat.backends.events_neurons import fuse
from msat.backends.events_stages import FusedRunner
from msat.backends.events_synapses import Synapses, lanes, tile_for
from msat.backends.kernels.structs import GATHER, SCAN, SCATTER
from msat.network import Relu, SpikingStage, Stage
from msat.neurons import IntegrateAndFire

LAYERS = (
    (64, 64, 32, 1), (128, 128, 16, 1), (256, 256, 8, 1), (512, 512, 4, 1), (512, 512, 2, 1),
    (16, 16, 32, 1), (16, 32, 32, 2), (32, 32, 16, 1), (64, 64, 8, 1),
)  # fmt: skip
"""Channels in and out, side of the map, stride; 3×3 convolutions of VGG16 and of He's ResNet-20."""
DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.5)
STEPS, IMAGES = 16, 10
KERNELS = {"gather": GATHER, "scatter": SCATTER, "dense": SCAN}


@dataclass(frozen=True)
class LayerTime:
    """Microseconds of one layer for one image and step, by kernel, and the kernel that the cost model picks."""

    layer: str
    density: float
    times: dict[str, float]
    chosen: str
    bound: float
    """Weight vectors that the events reach, at one per nanosecond and 0.27 ns: a load a cycle at 3.7 GHz."""


def measure_layers(repeats: int, layers: Sequence[tuple[int, int, int, int]] = LAYERS) -> list[LayerTime]:
    """Time every layer at every density."""
    return [measure_layer(*layer, density, repeats) for layer in layers for density in DENSITIES]


@torch.no_grad()
def measure_layer(before: int, after: int, side: int, stride: int, density: float, repeats: int) -> LayerTime:
    """Time one convolution with an IF neuron behind it."""
    shape, out = (before, side, side), (after, -(-side // stride), -(-side // stride))
    convolution = nn.Conv2d(before, after, 3, stride, 1).requires_grad_(False)
    traffic = random_traffic(shape, density)
    stage = SpikingStage(Stage("layer", (0,), graph(convolution), Relu()), IntegrateAndFire())
    synapses = Synapses(stage, [shape], [traffic.scale], out)
    fusion = fuse(IntegrateAndFire(threshold=torch.tensor(1.0)), len(out))
    assert fusion is not None
    runner = FusedRunner(synapses, fusion, out, None)
    chosen = next(name for name, kernel in KERNELS.items() if kernel == synapses.listen([traffic]))
    names = [name for name, kernel in KERNELS.items() if kernel == SCAN or kernel in synapses.cost.allowed]
    works: dict[str, Any] = {name: (partial(advance, runner, traffic, KERNELS[name]), STEPS * IMAGES) for name in names}
    timing = paired(works, repeats)
    vectors = traffic.events() / STEPS / IMAGES * 9 / stride**2 * after / lanes()
    name = f"{before} → {after}, {side}×{side}" + (f", stride {stride}" if stride > 1 else "")
    return LayerTime(name, density, {n: 1e6 * timing.median(n) for n in names}, chosen, vectors * 0.27e-3)


def advance(runner: FusedRunner, traffic: EventTraffic, kernel: int) -> None:
    """Run one chunk by a given kernel."""
    cost = runner.synapses.cost
    runner.synapses.cost = copy.copy(cost)
    runner.synapses.cost.cheapest = lambda events: kernel  # type: ignore[method-assign]  # noqa: ARG005
    runner.advance([traffic], None, torch.arange(IMAGES), 0, STEPS)
    runner.synapses.cost = cost


def graph(layer: nn.Module) -> fx.GraphModule:
    """Return a stage's synapses as tracing makes them."""
    return fx.symbolic_trace(nn.Sequential(layer))


def random_traffic(shape: tuple[int, ...], density: float) -> EventTraffic:
    """Return binary spikes whose rates differ among neurons as real ones do (exponentially)."""
    make = torch.Generator().manual_seed(0)
    rates = torch.empty(shape).exponential_(generator=make) * density
    rates = rates.clamp(max=1) if density < 0.5 else torch.full(shape, density)
    spikes: Tensor = (torch.rand(STEPS, IMAGES, *shape, generator=make) < rates).float()
    buffer = Buffer(shape, tile_for(shape[0]), graded=True)
    traffic = EventTraffic(buffer, buffer.lists(IMAGES, STEPS), IMAGES, torch.ones(shape[0]))
    traffic.record(0, spikes, None)
    traffic.lists.value = None
    return traffic
