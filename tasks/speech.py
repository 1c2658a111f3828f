"""Google Speech Commands: one-second words as raw waveforms at 8 kHz; the sample is synthetic sounds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from msat.errors import unknown_name
from msat.task import CHAIN, Data, ModelSpec, Profile, Published, Recipe, Task
from tasks.models.m5 import M5
from tasks.samples.sounds import sounds
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

SAMPLE_RECIPE = replace(RECIPE, epochs=6, augment=())


def _small(data: Data) -> M5:
    return M5(len(data.classes), widths=(16, 16, 32))


class Speech(Task):
    """Spoken words, 8,000 samples each."""

    name = "speech"
    title = "Speech Commands"
    modality: Literal["speech"] = "speech"
    published = (
        Published("m5", "MSAT", 87.81, 87.33, 2048, "MSAT (arXiv 2303.13080), Table 5"),
        Published("m5", "RMP-SNN", 87.81, 86.83, 2048, "MSAT (arXiv 2303.13080), Table 5"),
    )

    def models(self, profile: Profile) -> Mapping[str, ModelSpec]:
        """Return M5, or a narrow one."""
        if profile == "sample":
            return {"m5-small": ModelSpec(_small, SAMPLE_RECIPE, 32, CHAIN)}
        return {"m5": ModelSpec(lambda data: M5(len(data.classes)), RECIPE, 256, CHAIN)}

    def load(self, profile: Profile, folder: Path | None) -> Data:
        """Read Speech Commands (train: what neither list names; test: the testing list) or make sounds."""
        return sounds() if profile == "sample" else load_speech_commands(folder)

    def prepare(self, inputs: Tensor) -> Tensor:
        """int16 [n, 1, samples] to float32 of unit root mean square, for loud and soft voices alike."""
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
