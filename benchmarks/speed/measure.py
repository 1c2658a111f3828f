"""Paired timing: every contender once in each repeat, so that a ratio compares what ran side by side."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds per image and step of each contender, one entry for each repeat."""

    seconds: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        """Return a contender's median."""
        return statistics.median(self.seconds[name])

    def ratio(self, slow: str, fast: str) -> float:
        """Return the median over repeats of slow / fast."""
        return statistics.median(a / b for a, b in zip(self.seconds[slow], self.seconds[fast], strict=True))


def paired(works: Mapping[str, tuple[Work, int]], repeats: int) -> Timing:
    """Time each piece of work in turn.

    Args:
        works: for each name, what to run and how many images x steps it covers.
        repeats: how often; one more run of each warms up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, (work, units) in works.items():
            begun = time.perf_counter()
            work()
            if repeat:
                seconds[name].append((time.perf_counter() - begun) / units)
    return Timing(seconds)
