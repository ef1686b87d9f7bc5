"""``sessiontrail detect``: the detector's worker."""

import asyncio
import contextlib
import signal

import uvloop

from infra.detector_metrics import DetectorMetrics
from infra.settings import Settings, load_settings
from infra.telemetry import configure_logging
from sessiontrail.commands.context import say
from sessiontrail.composition import open_store
from sessiontrail.databases import database
from sessiontrail.detector import detect as run_detector
from sessiontrail.keys import key_ring


def detect() -> None:
    """Read the log, flag what is suspicious, and do what the policy says; until Ctrl-C."""
    settings = load_settings()
    configure_logging(settings.log_level.upper())
    with database(settings) as access:
        uvloop.run(_until_stopped(settings, access.service))


async def _until_stopped(settings: Settings, conninfo: str) -> None:
    async with open_store(settings, conninfo, key_ring(settings)) as store:
        working = asyncio.ensure_future(run_detector(settings, store, DetectorMetrics()))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, working.cancel)
        say("The detector reads the log.")
        with contextlib.suppress(asyncio.CancelledError):
            await working
