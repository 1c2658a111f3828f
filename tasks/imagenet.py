"""ImageNet: a thousand kinds of objects, pretrained networks; the sample is stacked pairs of digits."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models import resnet34, vgg16_bn

from msat.checkpoints import UNREADABLE
from msat.errors import MissingData
from msat.task import CHAIN, AdaptiveParameters, Data, ModelSpec, Profile, Published, Recipe, Task
from tasks.images import augment_images, normalise
from tasks.models.small import small_models
from tasks.pictures import load_imagenet
from tasks.samples.digits import pairs

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
URL = "https://download.pytorch.org/models/"
RECIPE = Recipe(epochs=90, schedule="cosine", batch=256, weight_decay=1e-4)
"""How torchvision trained them; not run here."""
RESNET34 = AdaptiveParameters(alpha=1.0, k_a=1.0, k_i=1.0, C=5.0, tau_mp=0.5, tau_rd=0.5)
"""Table 2, ResNet34."""


def weights_file(name: str) -> Callable[[nn.Module, Path], Path]:
    """Return a loader for a file with torchvision's name, from `<DATA>/imagenet` or torch hub's cache."""

    def load(network: nn.Module, folder: Path) -> Path:
        places = (folder / "imagenet" / name, Path(torch.hub.get_dir()) / "checkpoints" / name)
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            raise MissingData(
                f"pretrained weights {name} are absent; put {URL}{name} at {places[0]} or {places[1]}, "
                "or ask for random weights."
            )
        try:
            network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        except UNREADABLE as error:
            raise MissingData(f"{file} is damaged or of another network; fetch {URL}{name} again.") from error
        return file

    return load


class ImageNet(Task):
    """A thousand classes of 224×224 colour pictures."""

    name = "imagenet"
    title = "ImageNet"
    modality: Literal["image"] = "image"
    published = (
        Published("resnet34", "MSAT", 75.16, 74.93, 2045, "MSAT (arXiv 2303.13080), Table 4"),
        Published("resnet34", "Burst", 75.16, 74.94, 256, "MSAT (arXiv 2303.13080), Table 4"),
        Published("resnet34", "RMP-SNN", 70.64, 69.89, 2048, "MSAT (arXiv 2303.13080), Table 4"),
        Published("resnet34", "TSC", None, 69.93, 2048, "MSAT (arXiv 2303.13080), Table 4"),
        Published("resnet34", "Opt", 75.66, 75.44, 2048, "MSAT (arXiv 2303.13080), Table 4"),
        Published("resnet34", "Calibration", 75.66, 75.45, 2048, "MSAT (arXiv 2303.13080), Table 4"),
        Published("vgg16", "Opt", 72.4, 70.97, 64, "H-MT (AAAI 2026), comparison table"),
        Published("vgg16", "SNM", 73.18, 71.5, 64, "H-MT (AAAI 2026), comparison table"),
        Published("resnet34", "LTB + delayed evaluation", 73.31, 71.17, 64, "LTB (arXiv 2409.03368), Table 2"),
        Published("resnet34", "LTB + delayed evaluation", 73.31, 72.42, 256, "LTB (arXiv 2409.03368), Table 2"),
        Published("resnet34", "DCGS", 76.42, 76.04, 8, "DCGS (arXiv 2503.00301)"),
        Published("vgg16", "DCGS", 73.25, 73.17, 8, "DCGS (arXiv 2503.00301)"),
    )

    def models(self, profile: Profile) -> Mapping[str, ModelSpec]:
        """Return torchvision's ResNet-34 and VGG16 with batch normalisation, or small networks."""
        if profile == "sample":
            return small_models(epochs=4)
        return {
            "resnet34": ModelSpec(
                lambda data: resnet34(num_classes=len(data.classes)), RECIPE, 256, RESNET34,
                weights_file("resnet34-b627a593.pth"),
            ),
            "vgg16": ModelSpec(
                lambda data: vgg16_bn(num_classes=len(data.classes)), RECIPE, 256, CHAIN,
                weights_file("vgg16_bn-6c64b313.pth"),
            ),
        }  # fmt: skip

    def load(self, profile: Profile, folder: Path | None) -> Data:
        """List the pictures of `<folder>/imagenet`, or make stacked pairs of digits."""
        return pairs("stacked") if profile == "sample" else load_imagenet(folder)

    def prepare(self, inputs: Tensor) -> Tensor:
        """uint8 [n, 3, h, w] to normalised float32."""
        return normalise(inputs, MEAN, STD)

    def augment(self, inputs: Tensor, names: Sequence[str], generator: torch.Generator) -> Tensor:
        """Flip, crop, autoaugment and cutout."""
        return augment_images(inputs, names, generator)
