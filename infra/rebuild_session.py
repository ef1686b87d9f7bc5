"""The one session that rebuilds at a time, and how far the build is that it works on."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.migrate import HEAD
from infra.postgres import Connection
from infra.projection_folds import PROJECTIONS, own_connection, scalar
from infra.sealing import DataKeys

_REBUILDING = 7_305_802_116_530_212
"""Advisory lock of the one session that may touch the build, and what a swap replaced."""
_PATIENCE = "5s"  # a session that was killed ends in less, once it has noticed

_MAY_DELETE = "SELECT has_table_privilege(%s, 'DELETE') AND has_table_privilege(%s, 'TRUNCATE')"

_BUILD = ("rebuilt_users", "rebuilt_sessions", "rebuilt_alerts", "rebuild_progress")
# Autovacuum lets go of a table for somebody who has waited a second for it.
_WITHOUT_HURRY = "3s"

# Another build of ours may fold otherwise. A file is named anew whenever its table is emptied: so
# progress that came with a dump of another database, whose snapshots mean nothing here, is told.
# And what an archive has taken out of the log, a build from before cannot be caught up with.
_MADE_BY = """
SELECT concat_ws(' ', %s::text, pg_relation_filenode('rebuild_progress'),
                 (SELECT max(end_leaf) FROM log_archives WHERE restored_at IS NULL))
"""
_PLACES = """
SELECT table_name, since, folded_to, complete FROM rebuild_progress WHERE made_by = %s
"""
_BEGIN = """
INSERT INTO rebuild_progress (table_name, made_by, since, complete) VALUES (%s, %s, %s, false)
"""
_NOTE_STREAM = """
UPDATE rebuild_progress SET folded_to = hashtextextended(%s, 0) WHERE table_name = %s
"""
_NOTE_END = "UPDATE rebuild_progress SET complete = true, folded_to = NULL WHERE table_name = %s"
_NOTE_SNAPSHOT = "UPDATE rebuild_progress SET since = %s"


class RebuildError(Exception):
    """A step of a rebuild cannot be done; says why. The tables were not changed."""


class NotTheOwnerError(RebuildError):
    """The role that a rebuild was to run as may not delete rows."""


class RebuildUnderWayError(RebuildError):
    """Another rebuild is at work on this database."""


class NoBuildError(RebuildError):
    """There is no build, or not to its end, or another build of Sessiontrail made it."""


@dataclass(frozen=True, slots=True)
class Rebuilding:
    """What the one session that rebuilds works with.

    Attributes:
        engine: To read the log with.
        connection: Holds the lock; in autocommit.
        data_keys: Opens the subjects' data keys.
    """

    engine: AsyncEngine
    connection: Connection
    data_keys: DataKeys


@dataclass(frozen=True, slots=True)
class Place:
    """How far the build of one table is.

    Attributes:
        since: A snapshot: what it does not see is still to be folded.
        folded_to: The hash of the last stream, as long as the whole log is not folded.
        complete: Whether it is.
    """

    since: str
    folded_to: int | None
    complete: bool


@asynccontextmanager
async def rebuilding(engine: AsyncEngine, data_keys: DataKeys) -> AsyncIterator[Rebuilding]:
    """Be the one session that may touch the build, and what a swap replaced.

    Args:
        engine: As the owner of the tables; of at least two connections.
        data_keys: Opens the subjects' data keys.

    Raises:
        NotTheOwnerError: The role may not delete rows.
        RebuildUnderWayError: Somebody else is at it.
    """
    async with own_connection(engine) as connection:
        for projection in PROJECTIONS:
            tables = [projection.table, "rebuilt_" + projection.table]
            if not await scalar(connection, _MAY_DELETE, tables):
                msg = f"a rebuild needs to delete rows of {projection.table}: connect as its owner"
                raise NotTheOwnerError(msg)
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{_PATIENCE}'".encode())
                await connection.execute("SELECT pg_advisory_lock(%s)", (_REBUILDING,))
        except psycopg.errors.LockNotAvailable as error:
            msg = "another rebuild is under way on this database"
            raise RebuildUnderWayError(msg) from error
        yield Rebuilding(engine, connection, data_keys)


async def discard_build(connection: Connection) -> None:
    """Forget the build, and with it how far it is."""
    await empty(connection, _BUILD, _WITHOUT_HURRY)


async def empty(connection: Connection, tables: Sequence[str], patience: str) -> None:
    """Empty tables: what they held leaves the disk, unless somebody is just reading it.

    A dump reads all tables for as long as it takes, and truncating would wait for its end. Then
    rows are deleted instead, and vacuum is left to clear up.

    Args:
        connection: In a transaction or not.
        tables: Which.
        patience: How long to wait for those who read them, as PostgreSQL spells it.
    """
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{patience}'".encode())
            await connection.execute(f"TRUNCATE {', '.join(tables)}".encode())
    except psycopg.errors.LockNotAvailable:
        async with connection.transaction():
            for table in tables:
                await connection.execute(f"DELETE FROM {table}".encode())  # noqa: S608 (ours)


async def begin_build(connection: Connection, since: str) -> dict[str, Place]:
    """Forget what there was, and note that a build begins that will see this snapshot's log."""
    async with connection.transaction():
        await discard_build(connection)
        made_by = await _maker(connection)
        for projection in PROJECTIONS:
            await connection.execute(_BEGIN, (projection.table, made_by, since))
    return {projection.table: Place(since, None, False) for projection in PROJECTIONS}


async def places_of(connection: Connection) -> dict[str, Place]:
    """How far the build of each table is; empty where there is none to go on with."""
    cursor = await connection.execute(_PLACES, (await _maker(connection),))
    return {table: Place(*place) for table, *place in await cursor.fetchall()}


async def _maker(connection: Connection) -> str:
    made_by: str = await scalar(connection, _MADE_BY, [f"{version('sessiontrail')} {HEAD}"])
    return made_by


async def require_build(at: Rebuilding) -> None:
    """Make sure that there is a build to work with.

    Raises:
        NoBuildError: There is none.
    """
    places = await places_of(at.connection)
    if not places or not all(place.complete for place in places.values()):
        msg = "there is no build, or not to its end: run `sessiontrail projections build`"
        raise NoBuildError(msg)


async def since_build(connection: Connection) -> str:
    """The snapshot that the build stands at: what that does not see is still to be folded."""
    since: str = await scalar(connection, "SELECT min(since) FROM rebuild_progress")
    return since


async def note_stream(connection: Connection, table: str, stream: str) -> None:
    """Note that the streams up to this one are folded."""
    await connection.execute(_NOTE_STREAM, (stream, table))


async def note_end(connection: Connection, table: str) -> None:
    """Note that all streams are."""
    await connection.execute(_NOTE_END, (table,))


async def note_snapshot(connection: Connection, seen: str) -> None:
    """Note the snapshot that the build stands at now."""
    await connection.execute(_NOTE_SNAPSHOT, (seen,))
