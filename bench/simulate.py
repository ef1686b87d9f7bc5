"""The player: how many requests of a labelled world it plays a second, on one core."""

import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable

from bench.environment import Bench
from bench.figures import Figure
from detector.world.generator import generate
from detector.world.plan import World

_WORLD = World(seed=7, users=1_000, days=14)
_ROUNDS = 3
_BAR = 10_000


def simulate_figures(on: Bench, say: Callable[[str], None]) -> list[Figure]:
    """The whole command over a world with its attacks: start, reading, rules and answers.

    By processor time, since it shares its core with what else the machine does.
    """
    say("making a world")
    lines = list(generate(_WORLD))
    file = on.folder / "world.jsonl"
    file.write_bytes(b"\n".join(lines))
    rates = []
    for each in range(_ROUNDS):
        say(f"simulate, round {each + 1} of {_ROUNDS}")
        before = _used_by_children_s()
        subprocess.run(
            [sys.executable, "-m", "sessiontrail", "simulate", str(file), "--json"],
            stdout=subprocess.DEVNULL,
            env={**os.environ, "SESSIONTRAIL_DATA_DIR": str(on.folder / "none")},
            check=True,
        )
        rates.append(len(lines) / (_used_by_children_s() - before))
    rate = statistics.median(rates)
    return [Figure("requests simulated", rate, "1/s", None, _BAR, at_least=True)]


def _used_by_children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
