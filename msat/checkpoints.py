"""Checkpoints of trained networks: their file names, and reading and writing them whole or not at all."""

import hashlib
import json
import os
import pickle
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from msat.errors import UserError
from msat.task import Data, Recipe, Task

UNREADABLE = (
    RuntimeError, OSError, EOFError, KeyError, ValueError, pickle.UnpicklingError, struct.error,
)  # fmt: skip
"""What `torch.load` and `load_state_dict` raise for a file that is damaged or of another network."""


def checkpoint_path(task: Task, name: str, recipe: Recipe, data: Data, seed: int, folder: Path) -> Path:
    """Return a checkpoint's file: a readable name and the hash of all that determines the weights."""
    key = json.dumps([task.name, name, asdict(recipe), data.fingerprint(), seed], sort_keys=True)
    return folder / f"{task.name}-{name}-s{seed}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.safetensors"


def save_checkpoint(network: nn.Module, file: Path, meta: Mapping[str, Any]) -> None:
    """Write the weights and what is to be known about them; the file appears only when it is complete.

    Matrices and kernels are rounded to float16 (relative error 2^-12): half the size, and finer than the bfloat16 of the
    training's forward passes. What is measured later is the network as stored.
    """
    weights = {key: _stored(value.detach().cpu().contiguous()) for key, value in network.state_dict().items()}
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    save_file(weights, temporary, {"training": json.dumps(meta)})
    temporary.replace(file)


def _stored(value: Tensor) -> Tensor:
    return value.half() if value.dim() > 1 and value.abs().max() < torch.finfo(torch.half).max else value


def load_checkpoint(network: nn.Module, file: Path) -> dict[str, Any]:
    """Fill `network` from a checkpoint and return what was written beside the weights."""
    try:
        with safe_open(file, framework="pt") as opened:
            meta = json.loads(opened.metadata()["training"])
            network.load_state_dict({key: opened.get_tensor(key) for key in opened.keys()})  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise UserError(f"checkpoint {file} is damaged ({_short(error)}); delete it to train anew.") from error
    except RuntimeError as error:
        raise UserError(f"checkpoint {file} does not fit the network; delete it to train anew.") from error
    return dict(meta)


def weights_hash(network: nn.Module) -> str:
    """Return a hash of all parameters and buffers, the same on every device."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _short(error: BaseException) -> str:
    with suppress(IndexError):
        return str(error).splitlines()[0][:80]
    return type(error).__name__
