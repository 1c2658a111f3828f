"""Reads IMDB reviews and turns them into token ids with torchtext's tokenizer and vocabulary."""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from msat.errors import MissingData
from msat.task import Data, Provenance, TensorSplit
from tasks.cache import cached, listing_hash
from tasks.models.bilstm import pad_left

LENGTH = 256
"""Tokens that are kept: the last ones, where reviews conclude."""
VOCABULARY = 25_000
"""Most frequent training words that get an id of their own."""
CLASSES = ("neg", "pos")

Texts = list[str]


def load_imdb(folder: Path | None) -> Data:
    """Read `<folder>/aclImdb`, or download through Hugging Face `datasets`.

    Raises:
        MissingData: the reviews are not there and cannot be downloaded, or a file is damaged.
    """
    root = folder / "aclImdb" if folder else None
    if root and root.is_dir():
        files = {split: _list(root / split) for split in ("train", "test")}
        key = listing_hash(root, files["train"][0] + files["test"][0])
        tensors = cached("imdb", key, lambda: _encode(*(_read(*files[split]) for split in ("train", "test"))))
    else:
        tensors = cached("imdb", "huggingface", lambda: _encode(*_download(folder)))
    train = TensorSplit(tensors["train"], tensors["train_labels"])
    test = TensorSplit(tensors["test"], tensors["test_labels"])
    provenance = Provenance("real", f"IMDB, {len(train):,} + {len(test):,} reviews")
    return Data(train, test, CLASSES, provenance, {"vocabulary": int(tensors["vocabulary"])})


def tokenize(texts: Texts, test_texts: Texts, length: int, vocabulary: int) -> tuple[Tensor, Tensor, int]:
    """Return ids int64 [N, length] of both splits and their number; only `texts` make the vocabulary."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchtext 0.6 predates the Python that runs it
        from torchtext.data.utils import get_tokenizer
        from torchtext.vocab import Vocab
    split = get_tokenizer("basic_english")
    train, test = [split(text) for text in texts], [split(text) for text in test_texts]
    vocab = Vocab(Counter(word for words in train for word in words), max_size=vocabulary)

    def ids(documents: list[list[str]]) -> Tensor:
        return torch.stack([pad_left([vocab.stoi[word] for word in words], length) for words in documents])

    return ids(train), ids(test), len(vocab)


def _list(folder: Path) -> tuple[list[Path], Tensor]:
    """Return the files of one split and their labels int64 [N]."""
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(CLASSES):
        found = sorted((folder / name).glob("*.txt"))
        if not found:
            raise MissingData(f"{folder / name} holds no *.txt reviews; unpack aclImdb_v1.tar.gz again.")
        files += found
        labels += [label] * len(found)
    return files, torch.tensor(labels)


def _read(files: Sequence[Path], labels: Tensor) -> tuple[Texts, Tensor]:
    texts = []
    for file in files:
        try:
            texts.append(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise MissingData(f"{file} is not readable text; unpack aclImdb_v1.tar.gz again.") from error
    return texts, labels


def _download(folder: Path | None) -> list[tuple[Texts, Tensor]]:
    from datasets import load_dataset

    try:
        dataset = load_dataset("stanfordnlp/imdb")
    except (OSError, RuntimeError, ValueError) as error:
        raise MissingData(
            f"IMDB is not in {folder or 'a DATA folder'} and could not be downloaded; put the unpacked "
            "aclImdb_v1.tar.gz of https://ai.stanford.edu/~amaas/data/sentiment/ there as "
            "aclImdb/{train,test}/{pos,neg}/*.txt, and name the folder with DATA=."
        ) from error
    return [(list(dataset[name]["text"]), torch.tensor(dataset[name]["label"])) for name in ("train", "test")]


def _encode(train: tuple[Texts, Tensor], test: tuple[Texts, Tensor]) -> dict[str, Tensor]:
    train_ids, test_ids, size = tokenize(train[0], test[0], LENGTH, VOCABULARY)
    return {
        "train": train_ids, "train_labels": train[1], "test": test_ids, "test_labels": test[1],
        "vocabulary": torch.tensor(size),
    }  # fmt: skip
