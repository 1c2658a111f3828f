"""M5 of Dai et al. 2017: a convolutional network that hears raw waveforms."""

from collections.abc import Sequence

from torch import Tensor, nn


class M5(nn.Module):
    """Four 1-d convolutions, each with BN, ReLU and a max-pool of 4; global average; linear.

    Args:
        classes: logits.
        widths: channels of each convolution.
        kernel: samples that the first convolution sees (80 = 10 ms at 8 kHz); its stride is 4.
    """

    def __init__(self, classes: int, widths: Sequence[int] = (128, 128, 256, 512), kernel: int = 80) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for index, width in enumerate(widths):
            conv = nn.Conv1d(before, width, 3 if index else kernel, 1 if index else 4, bias=False)
            layers += [conv, nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(4)]
            before = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.classifier = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Waveforms [n, 1, samples] to logits [n, classes]."""
        return self.classifier(self.pool(self.features(x)).flatten(1))
