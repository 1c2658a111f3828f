"""Small versions of the image networks for pictures of 16×16 pixels, from the same builders."""

from torch import nn

from msat.task import CHAIN, RESIDUAL, Data, ModelSpec, Recipe
from tasks.models.resnet import ResNet, projection
from tasks.models.vgg import VGG

STEPS = 32


def vgg_small(data: Data) -> VGG:
    """Return five convolutions and three max-pools."""
    return VGG((16, 16, "M", 32, 32, "M", 64, "M"), 256, len(data.classes))


def resnet_small(data: Data) -> ResNet:
    """Return the paper's "ResNet20" in small: projections, max-pool at the end, 8 ReLUs."""
    return ResNet(2, (16, 32, 64), 1, projection, nn.MaxPool2d(4), len(data.classes), bias=True)


def small_models(epochs: int) -> dict[str, ModelSpec]:
    """Return `vgg-small` and `resnet-small`, trained for `epochs`."""
    recipe = Recipe(epochs=epochs, learning_rate=0.1, schedule="one-cycle", batch=64)
    return {
        "vgg-small": ModelSpec(vgg_small, recipe, STEPS, CHAIN),
        "resnet-small": ModelSpec(resnet_small, recipe, STEPS, RESIDUAL),
    }
