"""Peak memory of this process."""

import resource
import sys
from pathlib import Path

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory() -> float:
    """Return the largest resident memory of this program so far, MiB.

    Linux counts into `ru_maxrss` what the parent had before it started this program, so its own mark is read instead.
    """
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def forget_peak() -> None:
    """Let the peak begin anew at what is resident now, where the system allows it."""
    if FORGET.exists():
        FORGET.write_text("5")
