"""`python -m benchmarks.speed.convolutions`: VGG16's convolutions on a GPU, by the arithmetic that computes them."""

from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.provenance import commit
from benchmarks.speed.measure import paired
from benchmarks.speed.report import grid
from msat.backends.convolutions import arithmetic

LAYERS = (
    (64, 64, 32), (64, 128, 16), (128, 128, 16), (128, 256, 8), (256, 256, 8), (256, 512, 4), (512, 512, 4), (512, 512, 2),
)  # fmt: skip
"""Channels in and out, and the side of the map."""
IMAGES = 1024
SPIKES, VALUE = 0.1, 0.7
"""Share of neurons that send, and what they send."""
REPEATS = 5
WAYS: dict[str, Any] = {
    "cuDNN, fp32": nullcontext,
    "fp32, small maps as matrix": lambda: arithmetic(False),
    "three TF32 products": lambda: arithmetic(True),
}
HEAD = ("channels", "map", *(f"{name}: {unit}" for name in WAYS for unit in ("µs", "TFLOP/s", "error")))


def main() -> None:
    """Measure and print; one sentence where there is no GPU."""
    if not torch.cuda.is_available():
        print("There is no CUDA device here, so there are no GPU figures.")
        return
    torch.backends.cudnn.allow_tf32 = False
    head, dirty = commit()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, commit {head}{' with changes' if dirty else ''}")
    print(
        f"{IMAGES} maps at once, channels last; µs per map; error: largest deviation from float64 per largest result\n"
    )
    print(grid(HEAD, [measured(*layer, torch.device("cuda"), IMAGES) for layer in LAYERS]))


@torch.no_grad()
def measured(before: int, after: int, side: int, device: torch.device, images: int) -> tuple[str, ...]:
    """Return a row of HEAD for one layer on random spikes."""
    generator = torch.Generator(device).manual_seed(0)
    layer = nn.Conv2d(before, after, 3, padding=1, bias=False).to(device)
    layer.weight.normal_(0, (9 * before) ** -0.5, generator=generator)
    spikes = torch.rand(images, before, side, side, device=device, generator=generator) < SPIKES
    maps = (VALUE * spikes.float()).contiguous(memory_format=torch.channels_last)
    exact = nn.functional.conv2d(maps[:16].double(), layer.weight.double(), padding=1)

    def computed(way: str) -> Tensor:
        with WAYS[way]():
            result: Tensor = layer(maps)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return result

    timing = paired({way: (partial(computed, way), images) for way in WAYS}, REPEATS)
    operations = 2 * 9 * before * after * side * side
    cells = [f"{before} to {after}", f"{side} x {side}"]
    for way in WAYS:
        seconds = timing.median(way)
        error = (computed(way)[:16] - exact).abs().max() / exact.abs().max()
        cells += [f"{1e6 * seconds:.2f}", f"{operations / seconds / 1e12:.0f}", f"{float(error):.0e}"]
    return tuple(cells)


if __name__ == "__main__":
    main()
