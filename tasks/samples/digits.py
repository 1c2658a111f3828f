"""Makes small image tasks from scikit-learn's 1,797 handwritten digits; all strokes are real."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import interpolate

from msat.task import Data, Provenance, TensorSplit

TEST = 360
"""Digits kept for testing; no test example shares a digit with the train split."""
SIDE = 16
"""Height and width of the enlarged pictures in pixels."""
GRAIN = 25.0
"""Standard deviation of the paper's grain, in grey levels of 255; without it no network errs."""


@dataclass(frozen=True)
class Digits:
    """Grey digits uint8 [N, 1, 8, 8] and what they show, int64 [N]."""

    images: Tensor
    labels: Tensor


@cache
def digits() -> tuple[Digits, Digits]:
    """Return the train and the test digits, drawn once and for all by a seeded shuffle."""
    bunch = load_digits()
    images = (torch.from_numpy(bunch.images) * 15).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    test, train = order[:TEST], order[TEST:]
    return Digits(images[train], labels[train]), Digits(images[test], labels[test])


def plain(kind: Literal["real", "sample"]) -> Data:
    """Return the digits as they are: [N, 1, 8, 8], 10 classes."""
    train, test = digits()
    summary = f"scikit-learn handwritten digits, {len(train.labels):,} + {len(test.labels):,} images"
    return Data(
        TensorSplit(train.images, train.labels),
        TensorSplit(test.images, test.labels),
        tuple("0123456789"),
        Provenance(kind, summary),
    )


def tinted(copies: int = 2) -> Data:
    """Return digits in random colours: [N, 3, 16, 16]; each train digit comes in `copies` colours."""
    generator = torch.Generator().manual_seed(1)
    train, test = digits()
    pictures = TensorSplit(
        _tint(_resize(train.images.repeat(copies, 1, 1, 1), SIDE, SIDE), generator),
        train.labels.repeat(copies),
    )
    tests = TensorSplit(_tint(_resize(test.images, SIDE, SIDE), generator), test.labels)
    return _sample(pictures, tests, tuple("0123456789"), "tinted")


def pairs(layout: Literal["beside", "stacked"], train_size: int = 4000, test_size: int = 512) -> Data:
    """Return pairs of digits as numbers 00 to 99: [N, 3, 16, 16], 100 classes."""
    generator = torch.Generator().manual_seed(2 if layout == "beside" else 3)
    splits = [
        _pair(half, size, layout, generator) for half, size in zip(digits(), (train_size, test_size), strict=True)
    ]
    names = tuple(f"{number:02}" for number in range(100))
    remark = "pairs stacked" if layout == "stacked" else "pairs side by side"
    return _sample(splits[0], splits[1], names, remark)


def _pair(source: Digits, size: int, layout: str, generator: torch.Generator) -> TensorSplit:
    first, second = torch.randint(len(source.labels), (2, size), generator=generator)
    height, width, axis = (SIDE, SIDE // 2, 3) if layout == "beside" else (SIDE // 2, SIDE, 2)
    halves = [_resize(source.images[index], height, width) for index in (first, second)]
    if layout == "beside":
        images = _tint(torch.cat(halves, axis), generator)
    else:
        images = torch.cat([_tint(half, generator) for half in halves], axis)
    return TensorSplit(images, 10 * source.labels[first] + source.labels[second])


def _resize(images: Tensor, height: int, width: int) -> Tensor:
    larger = interpolate(images.float(), (height, width), mode="bilinear", align_corners=False)
    return larger.round().to(torch.uint8)


def _tint(images: Tensor, generator: torch.Generator) -> Tensor:
    """Paint grey [N, 1, h, w] with one light ink on one dark, grainy paper per picture: [N, 3, h, w]."""
    ink = 100 + 155 * torch.rand(len(images), 3, 1, 1, generator=generator)
    paper = 120 * torch.rand(len(images), 3, 1, 1, generator=generator)
    grain = GRAIN * torch.randn(len(images), 3, *images.shape[2:], generator=generator)
    share = images.float() / 255
    return (paper + share * (ink - paper) + grain).round().clamp(0, 255).to(torch.uint8)


def _sample(train: TensorSplit, test: TensorSplit, classes: tuple[str, ...], remark: str) -> Data:
    summary = f"scikit-learn handwritten digits, {len(train):,} + {len(test):,} pictures"
    return Data(train, test, classes, Provenance("sample", summary, (f"handwritten digits (real), {remark}",)))
