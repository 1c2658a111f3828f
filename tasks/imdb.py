"""IMDB: film reviews, for or against; the sample is text from a seeded generator."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor

from msat.task import CHAIN, Data, ModelSpec, Profile, Recipe, Task
from tasks.models.bilstm import BiLSTM
from tasks.reviews import load_imdb

RECIPE = Recipe(
    epochs=6, optimizer="adam", learning_rate=2e-3, schedule="one-cycle", batch=64, weight_decay=0.0
)


class Imdb(Task):
    """Film reviews as 256 token ids."""

    name = "imdb"
    title = "IMDB"
    modality: Literal["text"] = "text"

    def models(self, profile: Profile) -> Mapping[str, ModelSpec]:
        """Return the three-layer BiLSTM; its ReLU head spikes, the recurrent part stays real-valued."""
        return {
            "bilstm": ModelSpec(
                lambda data: BiLSTM(data.extras["vocabulary"], len(data.classes)), RECIPE, 32, CHAIN
            )
        }

    def load(self, profile: Profile, folder: Path | None) -> Data:
        """Read the reviews."""
        return load_imdb(folder)

    def prepare(self, inputs: Tensor) -> Tensor:
        """Token ids int64 [n, 256] are taken as they are."""
        return inputs
