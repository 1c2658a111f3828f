"""What CIFAR-10 and CIFAR-100 share: finding and reading them, and the training recipe of the paper."""

import warnings
from pathlib import Path

import torch
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity

from msat.errors import MissingData
from msat.task import CHAIN, RESIDUAL, Data, ModelSpec, Provenance, Recipe, TensorSplit
from tasks.cache import cache_folder
from tasks.folders import find_folders, load_small_images
from tasks.models.resnet import he_resnet20, paper_resnet20
from tasks.models.vgg import VGG, VGG16

SIDE = 32
STEPS = 256
PAPER_RECIPE = Recipe(
    epochs=300,
    learning_rate=0.1,
    schedule="one-cycle",  # the paper: cosine; with a warm-up the same recipe also works in a dozen epochs
    label_smoothing=0.1,
    augment=("flip", "crop", "autoaugment", "cutout"),
    gentle=("flip", "crop"),
)
SMALL_RECIPE = Recipe(
    epochs=100,
    learning_rate=0.2,
    schedule="one-cycle",
    label_smoothing=0.1,
    augment=("flip", "crop"),  # AutoAugment and cutout are more than 0.27 million weights can use
)


def full_models() -> dict[str, ModelSpec]:
    """Return VGG16, the paper's "ResNet20" and He's ResNet-20."""
    return {
        "vgg16": ModelSpec(lambda data: VGG(VGG16, 512, len(data.classes)), PAPER_RECIPE, STEPS, CHAIN),
        "resnet20": ModelSpec(lambda data: paper_resnet20(len(data.classes)), PAPER_RECIPE, STEPS, RESIDUAL),
        "resnet20-he": ModelSpec(lambda data: he_resnet20(len(data.classes)), SMALL_RECIPE, STEPS, RESIDUAL),
    }


def load_cifar(kind: type[CIFAR10], name: str, title: str, folder: Path | None) -> Data:
    """Read torchvision's layout or `<folder>/<name>/{train,test}/<class>/*`; download as a last resort.

    Raises:
        MissingData: neither is there and the download fails, or a file is damaged.
    """
    pictures = find_folders(folder / name if folder else None)
    if pictures:
        return load_small_images(name, title, pictures, SIDE, official=int(title.removeprefix("CIFAR-")))
    root = folder or cache_folder()
    if not (root / kind.base_folder).is_dir():
        _download(kind, name, title, root)
    return _read_batches(kind, title, root)


def _download(kind: type[CIFAR10], name: str, title: str, root: Path) -> None:
    try:
        kind(str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise MissingData(
            f"{title} is not in {root} and could not be downloaded; put the unpacked {kind.base_folder}/ of "
            f"https://www.cs.toronto.edu/~kriz/cifar.html there, or pictures as {name}/train/<class>/ and "
            f"{name}/test/<class>/, and name the folder with DATA=."
        ) from error


def _read_batches(kind: type[CIFAR10], title: str, root: Path) -> Data:
    for file, md5 in (*kind.train_list, *kind.test_list):
        path = root / kind.base_folder / file
        if not check_integrity(str(path), md5):
            raise MissingData(f"{path} is absent or damaged; unpack {kind.filename} into {root} again.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the official pickles hold NumPy types of 2009
        try:
            train, test = kind(str(root), train=True), kind(str(root), train=False)
        except RuntimeError as error:
            raise MissingData(f"{root / kind.base_folder} is damaged; unpack {kind.filename} there again.") from error
    summary = f"{title}, {len(train.targets):,} + {len(test.targets):,} images"
    return Data(_split(train), _split(test), tuple(train.classes), Provenance("real", summary))


def _split(dataset: CIFAR10) -> TensorSplit:
    images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
    return TensorSplit(images, torch.tensor(dataset.targets))
