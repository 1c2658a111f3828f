"""Google Speech Commands: one spoken word a second, as raw waveforms at 8 kHz; the sample is synthetic sounds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from msat.errors import unknown_name
from msat.task import CHAIN, Data, ModelSpec, Profile, Recipe, Task
from tasks.models.m5 import M5
from tasks.waveforms import AUGMENTATIONS, load_speech_commands

RECIPE = Recipe(
    epochs=40,
    optimizer="adam",
    learning_rate=3e-3,
    schedule="one-cycle",
    batch=64,
    weight_decay=1e-4,
    augment=("shift", "gain", "noise"),
)


class Speech(Task):
    """Spoken words, 8,000 samples each."""

    name = "speech"
    title = "Speech Commands"
    modality: Literal["speech"] = "speech"

    def models(self, profile: Profile) -> Mapping[str, ModelSpec]:
        """Return M5."""
        return {"m5": ModelSpec(lambda data: M5(len(data.classes)), RECIPE, 256, CHAIN)}

    def load(self, profile: Profile, folder: Path | None) -> Data:
        """Read Speech Commands: train is what stands in neither official list, test is the testing list."""
        return load_speech_commands(folder)

    def prepare(self, inputs: Tensor) -> Tensor:
        """int16 [n, 1, samples] to float32 of unit root mean square, so that loud and soft voices are alike."""
        waves = inputs.float()
        waves = waves - waves.mean(2, keepdim=True)
        return waves / waves.square().mean(2, keepdim=True).sqrt().clamp(min=1.0)

    def augment(self, inputs: Tensor, names: Sequence[str], generator: torch.Generator) -> Tensor:
        """Shift in time, gain and noise."""
        for name in names:
            if name not in AUGMENTATIONS:
                raise unknown_name("augmentation", name, AUGMENTATIONS)
            inputs = AUGMENTATIONS[name](inputs, generator)
        return inputs
