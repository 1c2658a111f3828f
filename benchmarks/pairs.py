"""Methods compared on the same inputs: exact McNemar tests, Holm's correction, intervals of paired differences."""

import base64
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtr

from benchmarks.statistics import Z_95

ALPHA = 0.05
Bits = NDArray[np.bool_]
Numbers = NDArray[np.float64]


def bit_rows(texts: Sequence[str], size: int) -> Bits:
    """Return packed texts as booleans [len(texts), size]."""
    rows = [np.unpackbits(np.frombuffer(base64.b64decode(t), dtype=np.uint8), count=size) for t in texts]
    return np.array(rows, dtype=bool).reshape(len(texts), size)


def only(rows: Bits, others: Bits) -> Numbers:
    """Return how many inputs row i has right and other j has not: [rows, others]."""
    counts = rows.astype(np.float32) @ (~others).astype(np.float32).T
    return counts.astype(np.float64)


def mcnemar(first: Numbers, second: Numbers) -> Numbers:
    """Return the two-sided exact p-value of McNemar's test from the counts of inputs that only one has right."""
    total, least = first + second, np.minimum(first, second)
    found: Numbers = np.minimum(1.0, 2 * bdtr(least, total.astype(np.int64), 0.5))
    return found


def proportions(right: Numbers, total: int) -> Numbers:
    """Return two-sided p-values [n, n] that two of n numbers of right answers out of `total` differ.

    A pooled z-test with Yates's correction for continuity. It does not know that the inputs are the same, and so usually
    tells fewer pairs apart than McNemar's test.
    """
    share = right / total
    both = (share[:, None] + share) / 2
    noise = np.sqrt(2 * both * (1 - both) / total)
    apart = np.maximum(np.abs(share[:, None] - share) - 1 / total, 0.0)
    z = apart / np.where(noise > 0, noise, 1.0)
    found: Numbers = 2 * ndtr(-z)
    return found


def holm(values: Numbers) -> Numbers:
    """Return p-values [n] corrected for n tests (Holm 1979)."""
    order = np.argsort(values, kind="stable")
    corrected = np.maximum.accumulate((len(values) - np.arange(len(values))) * values[order])
    found = np.empty_like(values)
    found[order] = np.minimum(1.0, corrected)
    return found


def holm_upper(matrix: Numbers) -> Numbers:
    """Return a matrix of p-values with those above its diagonal corrected together."""
    above = np.triu_indices(len(matrix), 1)
    found = np.ones_like(matrix)
    found[above] = holm(matrix[above])
    return found


def difference(first: int, second: int, total: int) -> tuple[float, float, float]:
    """Return the difference of two paired accuracies and its 95 % interval, in points (Agresti & Min 2005).

    Args:
        first: inputs that only A has right.
        second: inputs that only B has right.
        total: all inputs.
    """
    b, c, n = first + 0.5, second + 0.5, total + 2
    middle = (b - c) / n
    half = Z_95 * math.sqrt((b + c) - (b - c) ** 2 / n) / n
    return 100 * (first - second) / total, 100 * max(-1.0, middle - half), 100 * min(1.0, middle + half)
