"""The detector beside the service: a process of its own, so that it takes nothing from refreshes.

It ends with the service, however that ends: it reads from a pipe that only the service holds open.
"""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

_STOP_WITHIN_S = 15
_FIRST_REST_S = 0.5
_LONGEST_REST_S = 30.0
_RAN_WELL_S = 60.0
_log = logging.getLogger(__name__)


@asynccontextmanager
async def detector_process(environment: Mapping[str, str]) -> AsyncIterator[None]:
    """Keep ``sessiontrail detect`` running for as long as the block lasts.

    Args:
        environment: What its settings differ in from this process's.
    """
    keeping = asyncio.create_task(_keep_running(dict(os.environ) | dict(environment)))
    try:
        yield
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping


async def _keep_running(environment: Mapping[str, str]) -> None:
    loop = asyncio.get_running_loop()
    rest_s = _FIRST_REST_S
    while True:
        started_at = loop.time()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sessiontrail", "detect", "--with-parent"),
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
        _log.error("the detector ended with status %s; it is started again", status)
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
