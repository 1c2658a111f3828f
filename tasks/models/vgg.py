"""VGG for small images: convolution, batch normalisation and ReLU in a row, max-pools between stages."""

from collections.abc import Sequence

from torch import Tensor, nn

VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
"""13 convolutions and 5 pools: 32×32 pixels become one."""


class VGG(nn.Module):
    """Chain of 3×3 convolutions and one linear layer.

    Args:
        plan: output channels of each convolution, "M" for a 2×2 max-pool.
        features: values that reach the linear layer (last channels × remaining pixels).
        classes: logits.
        channels: of the input.
    """

    def __init__(self, plan: Sequence[int | str], features: int, classes: int, channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for step in plan:
            if isinstance(step, str):
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(channels, step, 3, padding=1, bias=False), nn.BatchNorm2d(step), nn.ReLU()]
            channels = step
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, channels, height, width] to logits [n, classes]."""
        return self.classifier(self.features(x).flatten(1))
