"""The event kernels: C++ that the system's compiler builds at first use, kept in a cache folder and called through ctypes.

Why C++ and not Numba: the same register-tile gather takes about a third of the lines (the compiler's vector types replace
hand-made intrinsics), runs as fast, and all specialisations together compile in a few seconds instead of half a minute;
numbers in docs/kernels.md.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread", "-ffp-contract=fast", "-Wno-psabi")
COMPILERS = ("g++", "clang++", "c++")
log = logging.getLogger(__name__)
REMEDY = "install g++ or clang++, or name one in CXX"


class NoCompiler(RuntimeError):
    """No C++ compiler works here; the message says what was tried."""


@cache
def library() -> ctypes.CDLL:
    """Return the compiled kernels, built now if this machine has not built these sources before.

    Raises:
        NoCompiler: nothing compiles them.
    """
    return _loaded("events", (FOLDER / "kernels.cpp").read_text(), FLAGS)


@cache
def written(source: str) -> ctypes.CDLL:
    """Return the kernel of one neuron from its C++ source; nothing is fused that PyTorch computes in two operations.

    Raises:
        NoCompiler: nothing compiles it.
    """
    return _loaded("neuron", source, (*FLAGS, "-ffp-contract=off"))


def _loaded(name: str, source: str, flags: tuple[str, ...]) -> ctypes.CDLL:
    compiler = _compiler()
    for target in ("-march=native", "-mcpu=native", ""):
        chosen = (*flags, target) if target else flags
        path = _folder() / f"{name}-{_key(compiler, chosen, source)}.so"
        if path.exists() or _build(compiler, chosen, source, path):
            return ctypes.CDLL(str(path))
    raise NoCompiler(f"{compiler} does not compile {FOLDER / 'kernels.cpp'}; {REMEDY}")


def _compiler() -> str:
    named = os.environ.get("CXX")
    for name in [named] if named else COMPILERS:
        if shutil.which(name):
            return name
    raise NoCompiler(f"no C++ compiler found ({named or ', '.join(COMPILERS)}); {REMEDY}")


def _folder() -> Path:
    """Return where libraries are kept: MSAT_KERNELS, or the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msat-bench" / "kernels"
    return Path(os.environ.get("MSAT_KERNELS") or default)


def _key(compiler: str, flags: tuple[str, ...], source: str) -> str:
    """Hash what the machine code depends on: the source and what it includes, compiler, flags, processor."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    digest = hashlib.sha256("\0".join([compiler, version, *flags, _processor(), source]).encode())
    for header in sorted(FOLDER.glob("*.h")):
        digest.update(header.read_bytes())
    return digest.hexdigest()[:16]


def _processor() -> str:
    """Return what tells two processors' instruction sets apart."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        lines = listing.read_text().splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    return platform.processor() or platform.machine()


def _build(compiler: str, flags: tuple[str, ...], source: str, path: Path) -> bool:
    """Compile into a temporary file beside `path` and rename it, so that two processes do not meet a half-written library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made, text = Path(folder) / path.name, Path(folder) / "source.cpp"
        text.write_text(source)
        command = [compiler, *flags, "-I", str(FOLDER), "-o", str(made), str(text)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            made.replace(path)
        else:
            log.debug("%s: %s", " ".join(command), done.stderr)
    return done.returncode == 0
