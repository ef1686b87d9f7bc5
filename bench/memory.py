"""How much memory processes take."""

import resource
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from bench.sampling import sampled

_LOOK_EVERY_S = 0.5
_STATUS = Path("/proc/self/status")


def own_peak_mb() -> float:
    """The most resident memory that this process has had, in MB.

    Linux reckons to a process's ``ru_maxrss`` what the one had that started it, so it is asked
    otherwise there.
    """
    if _STATUS.exists():
        fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)  # bytes there, KiB elsewhere


def resident_mb(process_id: int) -> float:
    """Resident memory of a process and of those that it started, in MB."""
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,rss="], capture_output=True, text=True, check=True
    ).stdout
    rows = [tuple(map(int, line.split())) for line in listing.splitlines()]
    return sum(rss for pid, parent, rss in rows if process_id in {pid, parent}) / 1024


def peak_watched(process_id: int) -> AbstractContextManager[list[float]]:
    """``resident_mb`` of a process, twice a second for as long as the block lasts."""
    return sampled(lambda: resident_mb(process_id), _LOOK_EVERY_S)
