"""``python -m bench [GROUP ...]``: the groups that are named, all of them by default."""

import sys
import tempfile
from pathlib import Path

from bench.audit import audit_figures
from bench.console import console_figures
from bench.detector import detector_figures
from bench.environment import bench
from bench.figures import Figure, report
from bench.kafka import kafka_figures
from bench.measures import history_figures, login_figures, refresh_figures, refusal_figures
from bench.simulate import simulate_figures

_GROUPS = {
    "refresh": refresh_figures,
    "refusals": refusal_figures,
    "logins": login_figures,
    "history": history_figures,
    "simulate": simulate_figures,
    "detector": detector_figures,
    "kafka": kafka_figures,
    "audit": audit_figures,
    "console": console_figures,
}


def say(line: str) -> None:
    """Tell the person who waits what goes on."""
    sys.stderr.write(line + "\n")


def main() -> None:
    """Measure, print the table, write the file."""
    chosen = sys.argv[1:] or list(_GROUPS)
    unknown = [name for name in chosen if name not in _GROUPS]
    if unknown:
        say(f"there is no group {unknown[0]}; the groups are {', '.join(_GROUPS)}")
        raise SystemExit(2)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="sessiontrail-bench-") as folder:
        Path(folder).chmod(0o755)  # the embedded server may run as another account
        with bench(Path(folder)) as on:
            for name in chosen:
                figures.extend(_GROUPS[name](on, say))
    report(figures)


if __name__ == "__main__":
    main()
