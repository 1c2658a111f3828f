"""IMDB: film reviews, for or against; the sample is text from a seeded generator."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from msat.task import CHAIN, Data, ModelSpec, Profile, Published, Recipe, Task
from tasks.models.bilstm import BiLSTM
from tasks.reviews import load_imdb
from tasks.samples.opinions import opinions

RECIPE = Recipe(epochs=6, optimizer="adam", learning_rate=2e-3, schedule="one-cycle", batch=64, weight_decay=0.0)

SAMPLE_RECIPE = replace(RECIPE, learning_rate=1e-2, batch=64)


def _full(data: Data) -> BiLSTM:
    return BiLSTM(data.extras["vocabulary"], len(data.classes))


def _small(data: Data) -> BiLSTM:
    return BiLSTM(data.extras["vocabulary"], len(data.classes), embedding=16, hidden=16, layers=1, head=16)


class Imdb(Task):
    """Film reviews as 256 token ids."""

    name = "imdb"
    title = "IMDB"
    modality: Literal["text"] = "text"
    published = (Published("bilstm", "MSAT", 87.22, 87.25, 7, "MSAT (arXiv 2303.13080), Table 5"),)

    def models(self, profile: Profile) -> Mapping[str, ModelSpec]:
        """Return the three-layer BiLSTM; its ReLU head spikes, the recurrent part stays real-valued."""
        if profile == "sample":
            return {"bilstm-small": ModelSpec(_small, SAMPLE_RECIPE, 32, CHAIN)}
        return {"bilstm": ModelSpec(_full, RECIPE, 32, CHAIN)}

    def load(self, profile: Profile, folder: Path | None) -> Data:
        """Read the reviews, or make short opinions."""
        return opinions() if profile == "sample" else load_imdb(folder)

    def prepare(self, inputs: Tensor) -> Tensor:
        """Token ids int64 [n, length] are taken as they are."""
        return inputs
