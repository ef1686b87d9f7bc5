"""A detector in a process of its own (``python -m bench.detector_run``), to tell what it costs."""

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path

import uvloop

from bench.memory import own_peak_mb
from infra.detector_metrics import DetectorMetrics
from infra.key_files import load_key_ring
from infra.settings import Settings
from sessiontrail.collector import spare_the_collector
from sessiontrail.detector import detect
from sessiontrail.store import open_store


class _Stopwatch(DetectorMetrics):
    """Counts the users' events, from the end of the first batch on: what starts is not measured."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self.done = asyncio.Event()
        self.measured: dict[str, float] = {}
        self._left = total
        self._began: tuple[int, float, float] | None = None

    def judged(self, stage: str, events: int, newest: float) -> None:
        super().judged(stage, events, newest)
        if stage != "users":
            return
        self._left -= events
        if self._began is None:
            self._began = (self._left, time.perf_counter(), time.process_time())
        elif self._left <= 0:
            count, wall, cpu = self._began
            self.measured = {
                "per_s": count / (time.perf_counter() - wall),
                "cpu_us": (time.process_time() - cpu) / count * 1e6,
            }
            self.done.set()


async def _run(conninfo: str, folder: Path, total: int) -> dict[str, float]:
    keys = load_key_ring(folder / "keys.json", None, None)
    watch = _Stopwatch(total)
    settings = Settings()
    async with open_store(settings, conninfo, keys) as store:
        working = asyncio.ensure_future(detect(settings, store, watch))
        finished = asyncio.ensure_future(watch.done.wait())
        await asyncio.wait([working, finished], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
    return watch.measured


def _main() -> None:
    spare_the_collector()  # as the command does
    measured = uvloop.run(_run(sys.argv[1], Path(sys.argv[2]), int(sys.stdin.read())))
    json.dump(measured | {"resident_mb": own_peak_mb()}, sys.stdout)


if __name__ == "__main__":
    _main()
