"""Reads Speech Commands from disk and changes waveforms at random."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor
from torchaudio.datasets import SPEECHCOMMANDS
from torchaudio.functional import resample

from msat.errors import MissingData
from msat.task import Data, Provenance, TensorSplit
from tasks.cache import cache_folder, cached, listing_hash

VERSIONS = {"speech_commands_v0.02": 35, "speech_commands_v0.01": 30}
"""Releases, newest first, with their number of words."""
SOURCE_RATE, RATE = 16_000, 8_000
"""Samples a second on disk and in the networks; a recording lasts one second."""
SHIFT = 800
"""Largest shift: 0.1 s at 8 kHz."""


def shift(waves: Tensor, generator: torch.Generator) -> Tensor:
    """Move each waveform int16 [n, 1, samples] by up to 0.1 s; silence enters."""
    n, _, samples = waves.shape
    reach = min(SHIFT, samples // 10)
    padded = torch.nn.functional.pad(waves, (reach, reach))
    first = torch.randint(2 * reach + 1, (n, 1), generator=generator)
    return padded.squeeze(1).gather(1, (first + torch.arange(samples)).to(waves.device)).unsqueeze(1)


def gain(waves: Tensor, generator: torch.Generator) -> Tensor:
    """Multiply each waveform by a factor between 0.5 and 1."""
    factor = 0.5 + 0.5 * torch.rand(len(waves), 1, 1, generator=generator)
    return (waves * factor.to(waves.device)).to(torch.int16)


def noise(waves: Tensor, generator: torch.Generator) -> Tensor:
    """Add white noise of up to 5 % of each waveform's root mean square."""
    level = 0.05 * torch.rand(len(waves), 1, 1, generator=generator)
    level = level.to(waves.device) * waves.float().square().mean(2, keepdim=True).sqrt()
    noisy = waves + level * torch.randn(waves.shape, generator=generator).to(waves.device)
    return noisy.clamp(-32768, 32767).to(torch.int16)


AUGMENTATIONS: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "shift": shift,
    "gain": gain,
    "noise": noise,
}


def load_speech_commands(folder: Path | None) -> Data:
    """Read the newest release found in the folder, or download one.

    Raises:
        MissingData: it is not there and cannot be downloaded, or a file is damaged.
    """
    root = _find(folder) or _download(folder or cache_folder())
    train, test = _index(root, "training"), _index(root, "testing")
    words = tuple(sorted({file.parent.name for file in train}))
    if not train or not test or {file.parent.name for file in test} - set(words):
        raise MissingData(f"{root} lacks training or testing recordings of some word; unpack the archive again.")
    key = listing_hash(root, train + test)
    tensors = cached("speech", key, lambda: {"train": _decode(train), "test": _decode(test)})
    official = VERSIONS[root.name]
    remarks = (f"{len(words)} of {official} words",) if len(words) < official else ()
    summary = f"Speech Commands {root.name[-5:]}, {len(train):,} + {len(test):,} recordings"
    return Data(
        TensorSplit(tensors["train"], _labels(train, words)),
        TensorSplit(tensors["test"], _labels(test, words)),
        words,
        Provenance("real", summary, remarks),
    )


def _find(folder: Path | None) -> Path | None:
    if folder is None:
        return None
    places = [folder / middle / version for version in VERSIONS for middle in ("SpeechCommands", "")]
    return next((place for place in places if place.is_dir()), None)


def _download(root: Path) -> Path:
    version = next(iter(VERSIONS))
    try:
        root.mkdir(parents=True, exist_ok=True)
        SPEECHCOMMANDS(root, version, download=True)
    except (OSError, RuntimeError) as error:
        raise MissingData(
            f"Speech Commands is not in {root} and could not be downloaded; put the unpacked "
            f"{version}.tar.gz of http://download.tensorflow.org/data/ at "
            f"{root / 'SpeechCommands' / version}/<word>/*.wav with its validation_list.txt and "
            "testing_list.txt, and name the folder with DATA=."
        ) from error
    return root / "SpeechCommands" / version


def _index(root: Path, subset: str) -> list[Path]:
    """Return the recordings of a subset, sorted; background noise is left out by torchaudio."""
    try:
        dataset = SPEECHCOMMANDS(root.parent, root.name, folder_in_archive="", subset=subset)
    except OSError as error:
        raise MissingData(f"{root} lacks validation_list.txt or testing_list.txt; unpack the archive again.") from error
    return sorted(root.parent / dataset.get_metadata(index)[0] for index in range(len(dataset)))


def _labels(files: Sequence[Path], words: Sequence[str]) -> Tensor:
    number = {word: index for index, word in enumerate(words)}
    return torch.tensor([number[file.parent.name] for file in files])


def _decode(files: Sequence[Path]) -> Tensor:
    """Read recordings as int16 [N, 1, 8000] at 8 kHz; short ones end in silence, long ones are cut."""
    waves = torch.zeros(len(files), 1, RATE, dtype=torch.int16)
    for first in range(0, len(files), 256):
        block = np.stack([_read(file) for file in files[first : first + 256]])
        halved = resample(torch.from_numpy(block).float(), SOURCE_RATE, RATE)
        waves[first : first + 256, 0] = halved.round().clamp(-32768, 32767).to(torch.int16)
    return waves


def _read(file: Path) -> np.ndarray:
    try:
        wave, rate = soundfile.read(file, frames=SOURCE_RATE, dtype="int16", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise MissingData(f"{file} is absent or not a readable recording; unpack the archive again.") from error
    if rate != SOURCE_RATE:
        raise MissingData(f"{file} has {rate} samples a second, not {SOURCE_RATE}; unpack the archive again.")
    return np.pad(wave[:, 0], (0, SOURCE_RATE - len(wave)))
