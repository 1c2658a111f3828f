"""The event kernels: C++ that the system's compiler builds at first use, kept in a cache folder and called through ctypes.

Why C++ and not Numba: the same register-tile gather takes about a third of the lines (the compiler's vector types replace
hand-made intrinsics), runs as fast, and all specialisations together compile in a few seconds instead of half a minute;
numbers in docs/kernels.md.
"""

import ctypes
import hashlib
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
REMEDY = "install g++ or clang++, or name one in CXX"


class NoCompiler(RuntimeError):
    """No C++ compiler works here; the message says what was tried."""


@cache
def library() -> ctypes.CDLL:
    """Return the compiled kernels, built now if this machine has not built these sources before.

    Raises:
        NoCompiler: nothing compiles them.
    """
    compiler = _compiler()
    for target in ("-march=native", "-mcpu=native", ""):
        flags = (*FLAGS, target) if target else FLAGS
        path = _folder() / f"events-{_key(compiler, flags)}.so"
        if path.exists() or _build(compiler, flags, path):
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


def _key(compiler: str, flags: tuple[str, ...]) -> str:
    """Hash what the machine code depends on: sources, compiler, flags, processor."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    digest = hashlib.sha256("\0".join([compiler, version, *flags, _processor()]).encode())
    for source in sorted(FOLDER.glob("*.[hc]*")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _processor() -> str:
    """Return what tells two processors' instruction sets apart."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        lines = listing.read_text().splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    return platform.processor() or platform.machine()


def _build(compiler: str, flags: tuple[str, ...], path: Path) -> bool:
    """Compile into a temporary file beside `path` and rename it, so that two processes do not meet a half-written library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        command = [compiler, *flags, "-o", str(made), str(FOLDER / "kernels.cpp")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            made.replace(path)
    return done.returncode == 0
