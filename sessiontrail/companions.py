"""What runs beside the service in processes of their own, so that it takes nothing from refreshes.

Each ends with the service, however that ends: it reads from a pipe that only the service holds.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

_STOP_WITHIN_S = 15
_FIRST_REST_S = 0.5
_LONGEST_REST_S = 30.0
_RAN_WELL_S = 60.0
_log = logging.getLogger(__name__)


@asynccontextmanager
async def companion(command: str, environment: Mapping[str, str]) -> AsyncIterator[None]:
    """Keep ``sessiontrail COMMAND --with-parent`` running for as long as the block lasts.

    Args:
        command: What to run.
        environment: What its settings differ in from this process's.
    """
    keeping = asyncio.create_task(_keep_running(command, dict(os.environ) | dict(environment)))
    try:
        yield
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping


async def run_until_stopped(working: "asyncio.Future[None]", *, with_parent: bool) -> None:
    """Work until a signal cancels it or, in a companion, until the service is gone.

    Args:
        working: What to wait for.
        with_parent: Whether this process is a companion.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, working.cancel)
    if with_parent:
        _end_with(sys.stdin.fileno(), working)
    with contextlib.suppress(asyncio.CancelledError):
        await working


def _end_with(pipe: int, working: "asyncio.Future[None]") -> None:
    """Cancel work once a pipe ends that nobody writes to: whoever held its other end is gone."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(pipe)  # it stays readable, and one cancellation lets it end in order
        working.cancel()

    loop.add_reader(pipe, stop)


async def _keep_running(command: str, environment: Mapping[str, str]) -> None:
    loop = asyncio.get_running_loop()
    rest_s = _FIRST_REST_S
    while True:
        started_at = loop.time()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sessiontrail", command, "--with-parent"),
            stdin=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches it through us, once
        )
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            await _stop(process)
            raise
        if loop.time() - started_at > _RAN_WELL_S:
            rest_s = _FIRST_REST_S
        _log.error("%s ended with status %s; it is started again", command, status)
        await asyncio.sleep(rest_s)
        rest_s = min(_LONGEST_REST_S, rest_s * 2)


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()  # before it listens to signals, it ends without a word, too
    try:
        await asyncio.wait_for(process.wait(), _STOP_WITHIN_S)
    except TimeoutError:
        process.kill()
        await process.wait()
