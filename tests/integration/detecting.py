"""Detectors at work on a test's database, and waiting for what they do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from domain.detection_work import Stage
from infra.detector_lag import lag_s
from infra.detector_metrics import DetectorMetrics
from infra.postgres import create_engine, transaction
from infra.sealing import DataKeys, MasterKeys
from infra.service_keys import ServiceKeyStore
from infra.settings import Settings
from infra.signing_keys import SigningKeyStore
from infra.user_commands import PostgresUserCommands
from sessiontrail.detector import detect, types_read
from sessiontrail.store import Store

DEADLINE_S = 40.0
_ResultT = TypeVar("_ResultT")


@asynccontextmanager
async def detecting(
    conninfo: str, masters: MasterKeys, metrics: DetectorMetrics | None = None
) -> AsyncIterator[None]:
    """One detector, with connections of its own, stopped at the end as Ctrl-C would."""
    engine = create_engine(conninfo, max_connections=6, wait_s=10)
    data_keys = DataKeys(masters)
    store = Store(
        engine,
        data_keys,
        PostgresUserCommands(engine, data_keys),
        SigningKeyStore(engine, masters),
        ServiceKeyStore(engine, masters),
    )
    work = asyncio.create_task(detect(Settings(), store, metrics or DetectorMetrics()))
    try:
        yield
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        await engine.dispose()


async def eventually(observe: Callable[[], Awaitable[_ResultT]], what: str) -> _ResultT:
    """Look again and again until there is something to see."""
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while not (seen := await observe()):
        assert asyncio.get_running_loop().time() < deadline, f"not in time: {what}"
        await asyncio.sleep(0.03)
    return seen


async def is_done(conninfo: str) -> bool:
    """Whether detectors have dealt with all that there is, their own alerts included."""
    engine = create_engine(conninfo, max_connections=1, wait_s=10)
    try:
        # The users' first: what it adds for the crowd's is there when that is asked.
        async with transaction(engine) as connection:
            users = await lag_s(connection, Stage.USERS, types_read(Stage.USERS))
        async with transaction(engine) as connection:
            crowd = await lag_s(connection, Stage.CROWD, types_read(Stage.CROWD))
    finally:
        await engine.dispose()
    return users == 0 and crowd == 0


async def all_judged(conninfo: str) -> None:
    """Wait until detectors have dealt with all that there is."""
    await eventually(lambda: is_done(conninfo), "the log is judged")
