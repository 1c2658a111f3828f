"""Statistics of counts: Wilson intervals, settled latency, and how many digits an interval supports."""

import math
from collections.abc import Sequence

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


def wilson(right: int, total: int, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion (Wilson 1927), both ends in [0, 1]."""
    if total == 0:
        return 0.0, 1.0
    share = right / total
    scale = 1 + z * z / total
    middle = (share + z * z / (2 * total)) / scale
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / scale
    return max(0.0, middle - half), min(1.0, middle + half)


def needed(ann: int, total: int, points: float) -> float:
    """Return the correct answers that reach the ANN's accuracy less `points` percentage points."""
    return ann - points * total / 100 - 1e-9


def first_reach(steps: Sequence[int], correct: Sequence[int], target: float) -> int | None:
    """Return the first step with at least `target` correct answers, or None."""
    return next((step for step, right in zip(steps, correct, strict=True) if right >= target), None)


def settled(steps: Sequence[int], correct: Sequence[int], target: float) -> int | None:
    """Return the first step from which on there are always at least `target` correct answers, or None."""
    found = None
    for step, right in zip(reversed(steps), reversed(correct), strict=True):
        if right < target:
            break
        found = step
    return found


def decimals(low: float, high: float) -> int:
    """Return the decimals of a percentage that its interval (percent) supports: the last digit is under a fifth of it."""
    width = high - low
    if width >= 20:
        return 0
    return 1 if width >= 0.5 else 2
