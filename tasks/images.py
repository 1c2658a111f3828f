"""What the image tasks share: normalisation and random changes, vectorised over the batch."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torchvision.transforms import v2

from msat.errors import unknown_name

PADDING = 4
"""Pixels added on each side before a random crop."""
GREY = 124
"""What cutout leaves behind: near the mean of natural images."""
APART = 128
"""Distance of images that AutoAugment changes alike, in one call: the batch of all recipes here, so never in one step."""


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Turn uint8 [n, c, h, w] into float32 of the same shape: (pixel / 255 - mean) / std, per channel."""
    shape = (1, len(mean), 1, 1)
    scale = torch.tensor(std, device=images.device).view(shape) * 255
    return (images.float() - torch.tensor(mean, device=images.device).view(shape) * 255) / scale


def augment_images(images: Tensor, names: Sequence[str], generator: torch.Generator) -> Tensor:
    """Apply the named changes in order to uint8 [n, c, h, w], on any device; what they draw comes from the CPU.

    Raises:
        UserError: a name is not one of `AUGMENTATIONS`.
    """
    for name in names:
        if name not in AUGMENTATIONS:
            raise unknown_name("augmentation", name, AUGMENTATIONS)
        images = AUGMENTATIONS[name](images, generator)
    return images


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability one half."""
    chosen = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)


def crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by up to `PADDING` pixels in both directions; black enters at the border."""
    n, channels, height, width = images.shape
    padded = torch.nn.functional.pad(images, (PADDING,) * 4)
    top = torch.randint(2 * PADDING + 1, (n, 1), generator=generator)
    left = torch.randint(2 * PADDING + 1, (n, 1), generator=generator)
    rows = (top + torch.arange(height)).view(n, 1, height, 1)
    columns = (left + torch.arange(width)).view(n, 1, 1, width)
    places = torch.arange(n).view(n, 1, 1, 1), torch.arange(channels).view(1, -1, 1, 1), rows, columns
    return padded[tuple(place.to(images.device) for place in places)]


def cutout(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blank a square of half the image's height round a random centre (DeVries & Taylor 2017)."""
    n, _, height, width = images.shape
    half = height // 4
    y = torch.randint(height, (n, 1), generator=generator)
    x = torch.randint(width, (n, 1), generator=generator)
    rows = ((torch.arange(height) - y) >= -half) & ((torch.arange(height) - y) < half)
    columns = ((torch.arange(width) - x) >= -half) & ((torch.arange(width) - x) < half)
    blank = rows.to(images.device)[:, :, None] & columns.to(images.device)[:, None, :]
    return images.masked_fill(blank.unsqueeze(1), GREY)


def autoaugment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Apply AutoAugment's CIFAR-10 policy (Cubuk et al. 2019) to each image; RGB only.

    Images whose numbers differ by a multiple of `APART` get the same change; on a GPU they belong to different steps.
    """
    policy = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)
    changed = torch.empty_like(images)
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        for first in range(min(APART, len(images))):
            changed[first::APART] = policy(images[first::APART])
    return changed


AUGMENTATIONS: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "flip": flip,
    "crop": crop,
    "cutout": cutout,
    "autoaugment": autoaugment,
}
