"""Comparing the tables with the log, in a process of its own: the log's tree takes a core as well.

``python -m sessiontrail.table_comparison`` reads what database it is to look into, and tells how it
goes on, as JSON: one thing a line.
"""

import asyncio
import contextlib
import sys
from contextlib import aclosing
from subprocess import PIPE
from typing import cast

import msgspec
import uvloop
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.as_of import AlteredHistoryError
from domain.events.registry import MalformedEventError, UnknownEventError
from domain.ids import SYSTEM_SUBJECT
from domain.ports import StoreUnavailableError
from infra.key_tables import key_differences
from infra.log_guard import guard_faults
from infra.postgres import create_engine, transaction
from infra.projection_folds import Progress
from infra.projection_store import verify_projections
from infra.sealing import DataKeys, UnsealError
from infra.settings import load_settings
from infra.subject_keys import subject_keys
from sessiontrail.keys import key_ring

MAX_DIFFERENCES = 1_000
"""After so many nobody needs another."""


class ComparisonFailedError(Exception):
    """The process that compares ended without a result; the message says how."""


class _Progressed(msgspec.Struct, frozen=True, tag="progress"):
    done: int
    total: int


class _Found(msgspec.Struct, frozen=True, tag="found"):
    what: str


class _Unavailable(msgspec.Struct, frozen=True, tag="unavailable"):
    why: str


_Told = _Progressed | _Found | _Unavailable
_encode = msgspec.json.Encoder().encode
_read_told: msgspec.json.Decoder[_Told] = msgspec.json.Decoder(_Told)


async def differences(engine: AsyncEngine, data_keys: DataKeys, progress: Progress) -> list[str]:
    """How the tables differ from what the log says, and what guards them; in this process.

    A line each.

    Args:
        engine: Any role that may read everything.
        data_keys: Opens the subjects' data keys.
        progress: Told after each piece of the log.

    Raises:
        StoreUnavailableError: The database went away.
    """
    found: list[str] = []
    async with aclosing(verify_projections(engine, data_keys, progress)) as differing:
        try:
            async for difference in differing:
                found.append(str(difference))
                if len(found) == MAX_DIFFERENCES:
                    break
        except (UnknownEventError, MalformedEventError, AlteredHistoryError) as error:
            found.append(f"the tables cannot be compared with the log: {error}")
    return [*found, *await _of_keys(engine, data_keys), *await guard_faults(engine)]


async def _of_keys(engine: AsyncEngine, data_keys: DataKeys) -> list[str]:
    """What is wrong with the tables of keys, and with the service's own data key."""
    found: list[str] = []
    try:
        found += map(str, await key_differences(engine))
    except (UnknownEventError, MalformedEventError) as error:
        found.append(f"the tables of keys cannot be compared with the log: {error}")
    try:
        async with transaction(engine) as connection:
            await subject_keys(connection, [SYSTEM_SUBJECT], data_keys)
    except UnsealError as error:
        found.append(f"the service's own data key: {error}")
    return found


async def differences_beside(conninfo: str, progress: Progress) -> list[str]:
    """``differences``, in a process that has this one's settings and keys, and ends with it.

    Args:
        conninfo: The database.
        progress: As ``differences``.

    Raises:
        StoreUnavailableError: The database went away.
        ComparisonFailedError: The process ended, and the database was not why.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sessiontrail.table_comparison"),
        stdin=PIPE,
        stdout=PIPE,
        start_new_session=True,  # Ctrl-C is ours
    )
    writer = cast("asyncio.StreamWriter", process.stdin)
    reader = cast("asyncio.StreamReader", process.stdout)
    try:
        writer.write(conninfo.encode())  # it may hold a password
        writer.close()
        found = await _heard(reader, progress)
        status = await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    if status:
        msg = f"the process that compares the tables ended with status {status}"
        raise ComparisonFailedError(msg)
    return found


async def _heard(lines: asyncio.StreamReader, progress: Progress) -> list[str]:
    found = []
    while line := await lines.readline():
        match _read_told.decode(line):
            case _Progressed(done, total):
                progress(done, total)
            case _Found(what):
                found.append(what)
            case _Unavailable(why):
                raise StoreUnavailableError(why)
    return found


def _tell(told: _Told) -> None:
    sys.stdout.buffer.write(_encode(told) + b"\n")
    sys.stdout.buffer.flush()


async def _compare(conninfo: str) -> None:
    settings = load_settings()
    engine = create_engine(conninfo, max_connections=1, wait_s=settings.database_wait)
    try:
        data_keys = DataKeys(key_ring(settings).masters)
        for what in await differences(
            engine, data_keys, lambda done, total: _tell(_Progressed(done, total))
        ):
            _tell(_Found(what))
    except StoreUnavailableError as error:
        _tell(_Unavailable(str(error)))
    finally:
        await engine.dispose()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
        uvloop.run(_compare(sys.stdin.read()))
