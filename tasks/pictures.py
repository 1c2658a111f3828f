"""Reads ImageNet picture by picture: a split lists files and decodes only those that are asked for."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, pil_to_tensor, resize

from msat.errors import MissingData
from msat.task import Data, Provenance, Split, Subset
from tasks.folders import ImageFiles, list_images, read_image
from tasks.synsets import SYNSETS

RESIZE, SIDE = 256, 224
"""Shorter side after resizing, then height and width of the central crop, in pixels."""
HELD_OUT = 1024
"""Validation pictures set aside for calibration where there is no train folder; at most a fifth."""


@dataclass(frozen=True)
class PictureSplit:
    """Pictures on disk; `take` gives uint8 [n, 3, 224, 224]."""

    files: tuple[Path, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.files)

    def take(self, indices: Tensor) -> Tensor:
        """Decode, resize and crop the pictures at int64 indices [n]."""
        if not len(indices):
            return torch.empty(0, 3, SIDE, SIDE, dtype=torch.uint8)
        return torch.stack([_decode(self.files[index]) for index in indices.tolist()])


def load_imagenet(folder: Path | None) -> Data:
    """List `<folder>/imagenet/val/<wnid>/*` and, where it is there, `train/<wnid>/*`.

    Raises:
        MissingData: there is no `val` folder, or a folder is not named after an ImageNet class.
    """
    root = (folder or Path("DATA")) / "imagenet"
    if folder is None or not (root / "val").is_dir():
        raise MissingData(
            f"ImageNet is not in {root} and cannot be downloaded; put validation pictures at "
            f"{root / 'val'}/<wnid>/ (and, for calibration, training pictures at "
            f"{root / 'train'}/<wnid>/) and name the folder with DATA=."
        )
    test: Split = _split(root / "val")
    remarks = []
    present = len(test.labels.unique())
    if present < len(SYNSETS):
        remarks.append(f"{present} of {len(SYNSETS):,} classes")
    if (root / "train").is_dir():
        train: Split = _split(root / "train")
    else:
        train, test = _hold_out(test)
        remarks.append(f"calibrated on {len(train)} validation pictures that are not tested on")
    summary = f"ImageNet ILSVRC2012 validation, {len(test):,} pictures tested"
    return Data(train, test, SYNSETS, Provenance("real", summary, tuple(remarks)))


def _split(folder: Path) -> PictureSplit:
    """List a split; labels are positions among all 1,000 classes, as pretrained networks number them."""
    found: ImageFiles = list_images(folder)
    number = {synset: index for index, synset in enumerate(SYNSETS)}
    odd = [name for name in found.classes if name not in number]
    if odd:
        raise MissingData(f"{folder / odd[0]} is not named after an ImageNet class; name it like n01440764.")
    return PictureSplit(found.files, torch.tensor([number[name] for name in found.classes])[found.labels])


def _hold_out(split: Split) -> tuple[Subset, Subset]:
    """Divide a split by a seeded shuffle: a small part for calibration, the rest, in order, for testing."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(20230323))
    size = min(HELD_OUT, max(1, len(split) // 5))
    return Subset(split, order[:size]), Subset(split, order[size:].sort().values)


def _decode(file: Path) -> Tensor:
    image = resize(read_image(file), [RESIZE], antialias=True)
    return pil_to_tensor(center_crop(image, [SIDE, SIDE]))
