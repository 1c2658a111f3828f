"""The kernels' C structs as ctypes (lists.h, pools.h), and arrays as pointers."""

import ctypes
import mmap
from ctypes import POINTER, c_float, c_int32, c_int64, c_uint64, c_void_p
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

SPARE = 80
NEURONS = {"if": 0, "adaptive": 1, "current": 2, "pass": 3, "burst": 4, "levels": 5, "hard or strict": 6, "signed": 7}
"""What becomes of the currents (kernels.cpp)."""
GATHER, SCAN, SCATTER = 0, 1, 2
"""Where the currents come from: lists by output, tensors in memory, lists by input."""
PAIR = c_int32 * 2
STATES = 6
"""Most state values of one neuron."""
PARAMETERS = 4
"""Most parameters that differ among a written neuron's neurons."""
Array = NDArray[Any]


class Lists(ctypes.Structure):
    _fields_ = [
        ("start", c_void_p), ("code", c_void_p), ("value", c_void_p), ("count", c_void_p),
        ("channels", c_int32), ("height", c_int32), ("width", c_int32),
        ("block", c_int32), ("blocks", c_int32), ("steps", c_int32),
    ]  # fmt: skip


class Term(ctypes.Structure):
    _fields_ = [
        ("source", Lists), ("kernel", PAIR), ("stride", PAIR), ("padding", PAIR), ("dilation", PAIR),
        ("pool", PAIR), ("size", PAIR), ("reciprocal", c_int32), ("span", c_int32), ("row", c_int32), ("low", c_void_p), ("run", c_void_p),
    ]  # fmt: skip


class Shortcut(ctypes.Structure):
    _fields_ = [("source", Lists), ("stride", PAIR), ("offset", c_int32), ("scale", c_void_p)]


class Adaptive(ctypes.Structure):
    _fields_ = [
        ("tau_mp", c_float), ("tau_rd", c_float), ("alpha", c_float), ("k_a", c_float),
        ("inverse_k_i", c_float), ("inverse_C", c_float), ("dtt", c_int32), ("det", c_int32), ("normalised", c_int32),
        ("filter", c_int32), ("filter_steps", c_int32), ("drop", c_float), ("key", c_uint64), ("samples", c_void_p),
    ]  # fmt: skip


class Levels(ctypes.Structure):
    _fields_ = [
        ("cap", c_float), ("gated", c_int32), ("hard", c_int32), ("strict", c_int32),
        ("as_bits", c_int32), ("members", c_int32), ("up", c_float), ("down", c_float),
        ("differential", c_int32), ("quiet", c_void_p), ("quiet_step", c_int64),
    ]  # fmt: skip


class Written(ctypes.Structure):
    _fields_ = [
        ("parameter", c_void_p * PARAMETERS), ("parameter_step", c_int64 * PARAMETERS),
        ("number", c_void_p), ("numbers", c_int64), ("course", c_void_p),
    ]  # fmt: skip


class Stage(ctypes.Structure):
    _fields_ = [
        ("batch", c_int32), ("begin", c_int32), ("end", c_int32), ("first", c_int32),
        ("height", c_int32), ("width", c_int32), ("channels", c_int32), ("tile", c_int32), ("tiles", c_int32),
        ("terms", c_int32), ("shortcuts", c_int32), ("rows", c_int32),
        ("term", POINTER(Term)), ("shortcut", POINTER(Shortcut)), ("weight", c_void_p),
        ("bias", c_void_p), ("bias_step", c_int64), ("current", c_void_p), ("current_time", c_int64),
        ("spikes", c_void_p), ("state", c_void_p * STATES), ("theta", c_void_p), ("theta_step", c_int64),
        ("adaptive", Adaptive), ("levels", Levels), ("written", Written), ("out", Lists), ("sink", c_void_p),
    ]  # fmt: skip


class Pool(ctypes.Structure):
    _fields_ = [
        ("source", Lists), ("out", Lists), ("begin", c_int32), ("end", c_int32),
        ("kernel", PAIR), ("stride", PAIR), ("padding", PAIR), ("dilation", PAIR), ("account", c_void_p),
        ("unit", c_void_p), ("current", c_void_p), ("current_time", c_int64), ("batch", c_int32), ("first", c_int32),
        ("forgets", c_int32), ("e_in", c_void_p), ("e_out", c_void_p), ("quiet", c_void_p), ("quiet_step", c_int64),
    ]  # fmt: skip


def room(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Return a zeroed array on page boundaries whose pages cost memory only once they are written."""
    kind = np.dtype(dtype)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    size = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(mmap.mmap(-1, max(1, size * kind.itemsize), flags=flags), kind, size).reshape(shape)


def aligned(values: Array) -> Array:
    """Return a copy on page boundaries."""
    copy = room(values.shape, values.dtype)
    copy[...] = values
    return copy


def address(array: Array | Tensor | None) -> int | None:
    """Return where the values lie; the caller keeps the array alive."""
    if array is None:
        return None
    return array.data_ptr() if isinstance(array, Tensor) else array.ctypes.data
