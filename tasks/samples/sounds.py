"""Makes a small speech task: quarter-second sounds of six kinds from a seeded generator."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from msat.task import Data, Provenance, TensorSplit

RATE, SAMPLES = 8_000, 2_000
"""Samples a second and samples of one sound."""
PEAK = 12_000.0
"""Largest amplitude of int16 before the random gain."""

Draw = Callable[[float, float], Tensor]
"""(low, high) -> one uniform value per sound: [n, 1]."""


def _tone(time: Tensor, draw: Draw) -> Tensor:
    return torch.sin(math.tau * draw(300, 1200) * time)


def _sweep(time: Tensor, start: Tensor, end: Tensor) -> Tensor:
    return torch.sin(math.tau * (start * time + (end - start) * time**2 * RATE / SAMPLES / 2))


def _rise(time: Tensor, draw: Draw) -> Tensor:
    return _sweep(time, draw(250, 500), draw(900, 1500))


def _fall(time: Tensor, draw: Draw) -> Tensor:
    return _sweep(time, draw(900, 1500), draw(250, 500))


def _trill(time: Tensor, draw: Draw) -> Tensor:
    return _tone(time, draw) * (0.5 + 0.5 * torch.sin(math.tau * draw(20, 40) * time))


def _vowel(time: Tensor, pitch: Tensor, formants: tuple[float, ...]) -> Tensor:
    """Sum harmonics of a pitch, loud near the formants (Hz)."""
    voice = torch.zeros(len(pitch), time.shape[1])
    for harmonic in range(1, 25):
        frequency = harmonic * pitch
        loudness = sum(torch.exp(-(((frequency - formant) / 150) ** 2)) for formant in formants)
        voice = voice + loudness * torch.sin(math.tau * frequency * time)
    return voice / voice.abs().amax(1, keepdim=True).clamp(min=1e-3)


def _vowel_a(time: Tensor, draw: Draw) -> Tensor:
    return _vowel(time, draw(90, 220), (750, 1200))


def _vowel_i(time: Tensor, draw: Draw) -> Tensor:
    return _vowel(time, draw(90, 220), (300, 2300))


KINDS: Mapping[str, Callable[[Tensor, Draw], Tensor]] = {
    "tone": _tone,
    "rise": _rise,
    "fall": _fall,
    "trill": _trill,
    "vowel a": _vowel_a,
    "vowel i": _vowel_i,
}


def sounds(train_size: int = 1800, test_size: int = 480) -> Data:
    """Return waveforms int16 [N, 1, 2000] in noise, equally many of each kind."""
    generator = torch.Generator().manual_seed(4)
    train, test = _make(train_size, generator), _make(test_size, generator)
    summary = f"generated sounds, {len(train):,} + {len(test):,} of 0.25 s"
    return Data(train, test, tuple(KINDS), Provenance("sample", summary, ("synthetic",)))


def _make(size: int, generator: torch.Generator) -> TensorSplit:
    each = size // len(KINDS)

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(each, 1, generator=generator)

    time = torch.arange(SAMPLES).view(1, -1) / RATE
    waves = torch.cat([kind(time, draw) for kind in KINDS.values()])
    gain = 0.3 + 0.7 * torch.rand(len(waves), 1, generator=generator)
    noisy = gain * (waves + 0.8 * torch.randn(waves.shape, generator=generator))
    labels = torch.arange(len(KINDS)).repeat_interleave(each)
    return TensorSplit((PEAK * noisy).clamp(-32768, 32767).to(torch.int16).unsqueeze(1), labels)
