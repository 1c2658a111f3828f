"""`python -m benchmarks.speed.gpu`: VGG16 on a GPU – 10,000 images for 256 steps, and the backends beside SpikingJelly's loops."""

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.bench import free_memory, gpu_batch
from benchmarks.provenance import commit
from benchmarks.speed.contenders import LOOP_STEPS, jelly_works
from benchmarks.speed.measure import Work, paired
from benchmarks.speed.report import grid
from benchmarks.speed.subjects import METHODS, Subject, subject
from msat.backends import choose
from msat.network import SpikingNetwork
from msat.observers import Accuracy, Activity
from msat.operations import fan_out
from msat.simulation import Batch, simulate

NAMES = ("folded", "folded-tf32x3")
WARM_STEPS = 8
"""Steps that come before a timed run: enough to compile."""
HEAD = ("neuron", "backend", "first use, s", "then, s", "images at once", "GiB")


def main() -> None:
    """Measure and print; one sentence where there is no GPU."""
    options = arguments()
    if not torch.cuda.is_available():
        print("There is no CUDA device here, so there are no GPU figures.")
        return
    device = torch.device("cuda")
    torch.backends.cudnn.allow_tf32 = False
    chosen = on(subject(options.network, options.data, options.steps), device)
    head, dirty = commit()
    print(
        f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}, commit {head}{' with changes' if dirty else ''}"
    )
    print(
        f"{options.network}: {chosen.origin}, repeated to {options.images} images, T = {options.steps}, observers as in a run\n"
    )
    size = gpu_batch([prod(shape) for shape in chosen.network.shapes()], free_memory(device))
    for neuron in options.neurons.split(","):
        network = chosen.converted(neuron)
        rows = [alone(network, chosen, neuron, name, size, options) for name in NAMES]
        print(grid(HEAD, rows), end="\n\n", flush=True)
        timing = paired(works(chosen, neuron, size, options.steps), options.repeats)
        ratios = [
            (neuron, name, f"{1e6 * timing.median(name):.2f}", f"{timing.ratio(name, 'folded'):.2f}")
            for name in timing.seconds
        ]
        heads = ("neuron", f"{size} images at once", "µs per image and step", "times folded's")
        print(grid(heads, ratios), end="\n\n", flush=True)


def alone(
    network: SpikingNetwork, chosen: Subject, neuron: str, backend: str, size: int, options: argparse.Namespace
) -> tuple[str, ...]:
    """Return a row of HEAD: a short first run, in which kernels are compiled (or read from PyTorch's cache), and the whole one."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    first = whole(network, chosen.inputs, size, min(WARM_STEPS, options.steps), size, backend)
    seconds = whole(network, chosen.inputs, options.images, options.steps, size, backend)
    peak = torch.cuda.max_memory_reserved() / 2**30
    return neuron, backend, f"{first:.1f}", f"{seconds:.1f}", str(size), f"{peak:.1f}"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.gpu", description=main.__doc__)
    data = os.environ.get("MSAT_DATA")
    parser.add_argument("--network", default="vgg16", help="a network of benchmarks.speed")
    parser.add_argument(
        "--neurons", default=",".join(METHODS), help=f"some of {', '.join(METHODS)}, or names of methods"
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=256, help="T")
    parser.add_argument("--repeats", type=int, default=5, help="paired repeats")
    parser.add_argument("--data", type=Path, default=Path(data) if data else None, help="folder of data sets")
    return parser.parse_args()


def on(chosen: Subject, device: torch.device) -> Subject:
    """Return a subject with its networks and inputs on a device."""
    network, inputs = chosen.network.to(device), chosen.inputs.to(device)
    calibration = replace(chosen.calibration, network=network, inputs=chosen.calibration.inputs.to(device))
    module = chosen.module.to(device)
    return replace(chosen, module=module, network=network, inputs=inputs, calibration=calibration)


def batches(inputs: Tensor, images: int, size: int) -> Iterator[Batch]:
    """Yield so many images, made by repeating the inputs."""
    for numbers in torch.arange(images, device=inputs.device).split(size):
        yield inputs[numbers % len(inputs)], numbers


def whole(network: SpikingNetwork, inputs: Tensor, images: int, steps: int, size: int, backend: str) -> float:
    """Return the seconds of a whole run with what a run of the benchmark observes."""
    labels = torch.zeros(images, dtype=torch.int64)
    observers = [Accuracy(labels, labels, steps), Activity(fan_out(network.network), steps)]
    begun = time.perf_counter()
    simulate(network, batches(inputs, images, size), steps, observers, choose(backend, str(inputs.device)))
    torch.cuda.synchronize()
    return time.perf_counter() - begun


def works(chosen: Subject, neuron: str, size: int, steps: int) -> dict[str, tuple[Work, int]]:
    """Return the loops to compare on one batch; each waits for the GPU."""
    network = chosen.converted(neuron)
    inputs = chosen.inputs[torch.arange(size, device=chosen.inputs.device) % len(chosen.inputs)]
    names = dict.fromkeys(NAMES, steps) | {"step": LOOP_STEPS}
    timed: dict[str, tuple[Work, int]] = {}
    for name, count in names.items():
        batch = [(inputs, torch.arange(size, device=inputs.device))]
        work = partial(simulate, network, batch, count, [], choose(name, str(inputs.device)))
        timed[name] = (work, count * size)
    timed |= jelly_works(chosen, network, inputs) if neuron == "IF" else {}
    return {name: (partial(waited, work), units) for name, (work, units) in timed.items()}


def waited(work: Work) -> None:
    """Do the work and wait until the GPU has."""
    work()
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
