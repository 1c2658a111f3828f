"""Residual networks for small images: the paper's 18-layer-like "ResNet20" and He's CIFAR ResNet-20."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

Shortcut = Callable[[int, int, int], nn.Module]
"""(channels in, channels out, stride) -> module."""


class PadShortcut(nn.Module):
    """He's parameter-free shortcut (option A): every `stride`-th pixel, new channels zero."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride, self.new = stride, after - before

    def forward(self, x: Tensor) -> Tensor:
        """[n, before, h, w] to [n, after, h / stride, w / stride]."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))


def projection(before: int, after: int, stride: int) -> nn.Module:
    """Return the 1×1 convolution shortcut with batch normalisation (option B)."""
    return nn.Sequential(nn.Conv2d(before, after, 1, stride), nn.BatchNorm2d(after))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with a shortcut round them; each of the two ReLUs is a module of its own."""

    def __init__(self, before: int, after: int, stride: int, shortcut: Shortcut, bias: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(after)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(after)
        changes = stride != 1 or before != after
        self.shortcut = shortcut(before, after, stride) if changes else nn.Identity()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[n, before, h, w] to [n, after, h / stride, w / stride]."""
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """Stem, stages of basic blocks, a pool and a linear layer.

    Args:
        stem: how many 3×3 convolutions (with BN and ReLU) precede the blocks.
        widths: channels of each stage; every stage but the first halves the resolution.
        blocks: basic blocks of each stage.
        shortcut: what joins blocks of different shape.
        pool: brings the last feature map to one pixel.
        classes: logits.
        bias: whether convolutions have one in spite of batch normalisation.
        channels: of the input.
    """

    def __init__(
        self, stem: int, widths: Sequence[int], blocks: int, shortcut: Shortcut, pool: nn.Module,
        classes: int, bias: bool = False, channels: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        width = widths[0]
        layers: list[nn.Module] = []
        for _ in range(stem):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=bias), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.stem = nn.Sequential(*layers)
        body: list[nn.Module] = []
        for stage, after in enumerate(widths):
            for block in range(blocks):
                body.append(BasicBlock(width, after, 2 if stage and not block else 1, shortcut, bias))
                width = after
        self.body = nn.Sequential(*body)
        self.pool = pool
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, channels, height, width] to logits [n, classes]."""
        return self.classifier(self.pool(self.body(self.stem(x))).flatten(1))


def paper_resnet20(classes: int) -> ResNet:
    """Return the paper's "ResNet20" for 32×32 pixels: 3 + 16 convolutions, 64 to 512 channels, 19 ReLUs."""
    return ResNet(3, (64, 128, 256, 512), 2, projection, nn.MaxPool2d(4), classes, bias=True)


def he_resnet20(classes: int) -> ResNet:
    """Return He's ResNet-20 for 32×32 pixels: 16, 32, 64 channels, 19 ReLUs, 0.27 million weights."""
    return ResNet(1, (16, 32, 64), 3, PadShortcut, nn.AdaptiveAvgPool2d(1), classes)
