"""Reads image data sets laid out as `train/<class>/*` beside `test/<class>/*` or `val/<class>/*`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from msat.errors import MissingData
from msat.task import Data, Provenance, TensorSplit
from tasks.cache import cached, listing_hash

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}


@dataclass(frozen=True)
class ImageFiles:
    """The pictures of one split: files in order, with the class of each."""

    files: tuple[Path, ...]
    labels: Tensor
    classes: tuple[str, ...]


def list_images(folder: Path, classes: Sequence[str] | None = None) -> ImageFiles:
    """List the pictures of `folder/<class>/`; `classes` fixes the numbering (default: sorted folder names).

    Raises:
        MissingData: the folder holds no pictures, or classes other than the given.
    """
    found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if classes is None:
        classes = found
    if set(found) != set(classes):
        odd = sorted(set(found) ^ set(classes))
        raise MissingData(f"{folder} and its sister folder differ in classes ({', '.join(odd[:3])}); make them equal.")
    files: list[Path] = []
    labels: list[int] = []
    for number, name in enumerate(classes):
        pictures = sorted(file for file in (folder / name).iterdir() if file.suffix.lower() in SUFFIXES)
        files += pictures
        labels += [number] * len(pictures)
    if not files:
        raise MissingData(f"{folder} holds no pictures; put JPEG or PNG files into {folder}/<class>/.")
    return ImageFiles(tuple(files), torch.tensor(labels), tuple(classes))


def read_image(file: Path) -> Image.Image:
    """Read a picture as RGB.

    Raises:
        MissingData: the file is damaged.
    """
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise MissingData(f"{file} is not a readable picture; replace or remove it.") from error


def find_folders(root: Path | None) -> tuple[Path, Path] | None:
    """Return (train, test) under `root`, the test one named `test` or `val`; None when they are not there."""
    if root is None or not (root / "train").is_dir():
        return None
    for name in ("test", "val"):
        if (root / name).is_dir():
            return root / "train", root / name
    return None


def load_small_images(name: str, title: str, folders: tuple[Path, Path], side: int, official: int) -> Data:
    """Read both splits into memory as uint8 [N, 3, side, side]; the second reading comes from the cache.

    Args:
        name: of the cache file.
        title: of the data set, for the provenance.
        folders: (train, test).
        side: height and width that every picture must have.
        official: classes of the complete data set, to remark on a partial one.
    """
    train = list_images(folders[0])
    test = list_images(folders[1], train.classes)
    key = listing_hash(folders[0].parent, train.files + test.files)
    tensors = cached(name, key, lambda: {"train": _decode(train.files, side), "test": _decode(test.files, side)})
    remarks = []
    if any(file.suffix.lower() in {".jpg", ".jpeg"} for file in (train.files[0], test.files[0])):
        remarks.append("JPEG re-encoded")
    if len(train.classes) < official:
        remarks.append(f"{len(train.classes)} of {official} classes")
    summary = f"{title}, {len(train.files):,} + {len(test.files):,} images"
    return Data(
        TensorSplit(tensors["train"], train.labels),
        TensorSplit(tensors["test"], test.labels),
        train.classes,
        Provenance("real", summary, tuple(remarks)),
    )


def _decode(files: Sequence[Path], side: int) -> Tensor:
    images = torch.empty(len(files), 3, side, side, dtype=torch.uint8)
    for index, file in enumerate(files):
        image = read_image(file)
        if image.size != (side, side):
            raise MissingData(f"{file} is {image.width}×{image.height}, not {side}×{side}; replace or remove it.")
        images[index] = pil_to_tensor(image)
    return images
