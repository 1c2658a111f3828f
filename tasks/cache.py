"""Keeps decoded data sets in `.cache/data` (or under `MSAT_CACHE`), so that reading twice is fast."""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

VERSION = 1
"""Raised when what is stored changes its meaning."""


def cache_folder() -> Path:
    """Return the folder of decoded and downloaded data."""
    return Path(os.environ.get("MSAT_CACHE", ".cache")) / "data"


def listing_hash(root: Path, files: Iterable[Path]) -> str:
    """Return a hash of relative names and sizes; it changes when files come, go or are replaced."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(root)} {file.stat().st_size}\n".encode())
    return digest.hexdigest()[:16]


def cached(name: str, key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return tensors by name, from the cache if they are there; a damaged cache file is made anew."""
    file = cache_folder() / f"{name}-v{VERSION}-{key}.safetensors"
    if file.exists():
        try:
            return load_file(file)
        except SafetensorError:
            file.unlink(missing_ok=True)
    tensors = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    save_file({key: value.contiguous() for key, value in tensors.items()}, temporary)
    temporary.replace(file)
    return tensors
