"""Makes a small text task: opinions about films from a seeded generator, with negation and idle words."""

import random

import torch

from msat.task import Data, Provenance, TensorSplit
from tasks.reviews import CLASSES, tokenize

LENGTH = 24
"""Tokens of one text."""
GOOD = ("good", "great", "fine", "moving", "brilliant", "funny", "clever", "warm", "gripping", "superb")
BAD = ("bad", "awful", "dull", "boring", "clumsy", "stupid", "weak", "flat", "tedious", "poor")
THINGS = ("film", "plot", "cast", "script", "music", "ending", "story", "acting", "camera", "dialogue")
IDLE = ("the", "a", "of", "and", "we", "saw", "with", "that", "it", "one", "evening", "again", "really")
IRONY = 0.05
"""Share of texts that mean the opposite of what they say: no reader gets them right."""


def opinions(train_size: int = 3000, test_size: int = 512) -> Data:
    """Return texts as token ids int64 [N, 24]; no test text stands in the train split."""
    source = random.Random(5)
    made: dict[str, int] = {}
    while len(made) < train_size + test_size:
        text, label = _opinion(source)
        made[text] = label ^ (source.random() < IRONY)
    texts, labels = list(made), torch.tensor(list(made.values()))
    train, test, size = tokenize(texts[:train_size], texts[train_size:], LENGTH, vocabulary=1000)
    return Data(
        TensorSplit(train, labels[:train_size]),
        TensorSplit(test, labels[train_size:]),
        CLASSES,
        Provenance("sample", f"generated opinions, {train_size:,} + {test_size:,} texts", ("synthetic",)),
        {"vocabulary": size},
    )


def _opinion(source: random.Random) -> tuple[str, int]:
    """Return three remarks of which two or three agree, and what they agree on; 0 against, 1 for."""
    label = source.randrange(2)
    dissent = source.random() < 0.3
    remarks = [_remark(source, label ^ (dissent and index == 0)) for index in range(3)]
    source.shuffle(remarks)
    return " . ".join(remarks), label


def _remark(source: random.Random, label: int) -> str:
    negated = source.random() < 0.25
    word = source.choice(GOOD if label ^ negated else BAD)
    idle = " ".join(source.choices(IDLE, k=source.randrange(3)))
    return f"{idle} {source.choice(THINGS)} was {'not ' if negated else ''}{word}".strip()
