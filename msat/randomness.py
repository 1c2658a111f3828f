"""Randomness that does not depend on how work is cut: numbers are a hash of (key, input, neuron, step)."""

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def seed_for(*parts: object) -> int:
    """Derive a 63-bit seed from what names a run, e.g. (base seed, task, method, repetition)."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def uniform(key: int, samples: Tensor, shape: Sequence[int], step: int) -> Tensor:
    """Return float32 numbers in [0, 1) for each neuron of each input at one step: [B, *shape].

    Args:
        key: seed, 63 bits.
        samples: number of each input in its data set, int64 [B].
        shape: neurons of one input.
        step: time step.
    """
    neurons = torch.arange(math.prod(shape), device=samples.device).view(*shape)
    base = _mix(torch.tensor(step + 1, device=samples.device) * _GOLDEN + key)
    rows = _mix(base + samples * _MIX_1).view(-1, *[1] * len(shape))
    return (_mix(rows + neurons * _GOLDEN) >> 40 & 0xFFFFFF).float() / 2**24


def _mix(z: Tensor) -> Tensor:
    """Scramble 64-bit integers (the finaliser of SplitMix64; Steele, Lea & Flood 2014)."""
    z = (z ^ (z >> 30 & (1 << 34) - 1)) * _MIX_1
    z = (z ^ (z >> 27 & (1 << 37) - 1)) * _MIX_2
    return z ^ (z >> 31 & (1 << 33) - 1)
