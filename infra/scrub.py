"""Scrubbing: taking what was erased out of the database's files, where deleting alone leaves it.

PostgreSQL leaves a row's bytes where they were until something else needs the room: in pages, in
index entries, in the statistics of columns, and in the write-ahead log, whose old files it renames
for later use as they are. So the tables that hold personal data are written anew, what the
statistics say of them too, and the log is moved on over every file that there is.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import psycopg
from psycopg import sql

from infra.postgres import Connection, translated_faults
from infra.projection_leftovers import PERSONAL_LEFTOVERS

PERSONAL_TABLES: Final = (
    "users",
    "credentials",
    "data_keys",
    "sessions",
    "alerts",
    *PERSONAL_LEFTOVERS,
    "detector_states",
    "detector_set_aside",
)
"""What an erasure clears. The log itself holds sealed boxes only."""

_LOCK_TIMEOUT: Final = "5s"
_LOCK_ATTEMPTS: Final = 12
_POLL_S: Final = 0.1

_FOREIGN = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'public' AND c.relname = ANY(%s)
   AND NOT pg_has_role(current_user, c.relowner, 'USAGE')
"""
_OWNS_DATABASE = """
SELECT pg_has_role(current_user, datdba, 'USAGE') FROM pg_database
 WHERE datname = current_database()
"""
# Whoever may still see a row that was deleted before the mark: it would be carried over.
_LOOKERS = """
SELECT coalesce(string_agg(who, ', '), '') FROM (
  SELECT 'backend ' || pid FROM pg_stat_activity
   WHERE pid <> pg_backend_pid() AND coalesce(datname, current_database()) = current_database()
     AND greatest(age(backend_xid), age(backend_xmin)) > age(%(mark)s::text::xid)
  UNION ALL
  SELECT 'replication slot ' || slot_name FROM pg_replication_slots
   WHERE greatest(age(xmin), age(catalog_xmin)) > age(%(mark)s::text::xid)
  UNION ALL
  SELECT 'prepared transaction ' || gid FROM pg_prepared_xacts
   WHERE age(transaction) > age(%(mark)s::text::xid)
) AS lookers(who)
"""
_WAL_FILES = "SELECT name FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$' ORDER BY name"
_WAL_FILE_NOW = "SELECT pg_walfile_name(pg_current_wal_insert_lsn())"

Progress = Callable[[int, int], None]
"""Told how many steps are done, and of how many."""


class ScrubError(Exception):
    """Nothing can be scrubbed now, or by this role; the message says why and what to do."""


class Scrubbed(msgspec.Struct, frozen=True):
    """What a scrub did.

    Attributes:
        tables: Tables that were written anew.
        wal_files: Files of the write-ahead log that were written over.
        left: What could not be done, and by whom it can; empty where all was.
    """

    tables: tuple[str, ...]
    wal_files: int
    left: tuple[str, ...]


async def scrub(conninfo: str, progress: Progress, patience_s: float = 60.0) -> Scrubbed:
    """Write personal tables anew, and move the write-ahead log on over its old files.

    Each table is locked while it is written, so requests wait; run it when few come.

    Args:
        conninfo: Connects as the tables' owner. The statistics need the database's owner, the
            write-ahead log a superuser, or a role that was granted as much.
        progress: Told after each step.
        patience_s: Seconds to wait for transactions that may still see what was deleted.

    Raises:
        ScrubError: The role does not own the tables, or somebody may still see deleted rows.
        StoreUnavailableError: The database went away, or a table stayed locked by others.
    """
    with translated_faults():
        async with await psycopg.AsyncConnection.connect(
            conninfo, autocommit=True, application_name="sessiontrail scrub"
        ) as connection:
            await _refuse_strangers(connection)
            await _wait_for_lookers(connection, patience_s)
            steps = len(PERSONAL_TABLES) + 2
            left = []
            for done, table in enumerate(PERSONAL_TABLES, 1):
                await _rewrite(connection, table)
                progress(done, steps)
            if await _value(connection, _OWNS_DATABASE):
                await connection.execute("VACUUM (FULL) pg_catalog.pg_statistic")
            else:
                left.append("column statistics: run VACUUM FULL pg_statistic as database owner")
            progress(steps - 1, steps)
            try:
                passed, kept = await _pass_over_wal(connection)
                left.extend(kept)
            except psycopg.errors.InsufficientPrivilege:
                passed = 0
                left.append("the write-ahead log: run the scrub as a superuser")
            progress(steps, steps)
    return Scrubbed(PERSONAL_TABLES, passed, tuple(left))


async def _refuse_strangers(connection: Connection) -> None:
    cursor = await connection.execute(_FOREIGN, (list(PERSONAL_TABLES),))
    foreign = [record[0] for record in await cursor.fetchall()]
    if foreign:
        msg = (
            f"a scrub needs the owner of {', '.join(foreign)}:"
            " set SESSIONTRAIL_MIGRATION_DATABASE_URL to theirs"
        )
        raise ScrubError(msg)


async def _wait_for_lookers(connection: Connection, patience_s: float) -> None:
    mark = await _value(connection, "SELECT pg_current_xact_id()::xid::text")
    deadline = asyncio.get_running_loop().time() + patience_s
    while lookers := await _value(connection, _LOOKERS, {"mark": mark}):
        if asyncio.get_running_loop().time() > deadline:
            msg = f"old transactions may still see what was erased: end {lookers}, then try again"
            raise ScrubError(msg)
        await asyncio.sleep(_POLL_S)


async def _rewrite(connection: Connection, table: str) -> None:
    statement = sql.SQL("VACUUM (FULL, ANALYZE) public.{}").format(sql.Identifier(table))
    # Whoever comes after a lock that waits, waits too: better to try again than to stand in line.
    await connection.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT}'".encode())
    for attempt in range(1, _LOCK_ATTEMPTS + 1):
        try:
            await connection.execute(statement)
        except psycopg.errors.LockNotAvailable:
            if attempt == _LOCK_ATTEMPTS:
                raise
        else:
            return


async def _pass_over_wal(connection: Connection) -> tuple[int, list[str]]:
    """How many files were written over, and what was not."""
    began_in = await _value(connection, _WAL_FILE_NOW)
    await _switch(connection)
    await connection.execute("CHECKPOINT")  # old files are renamed for later now, or removed
    last = (await _wal_files(connection))[-1]
    passed = 0
    while await _value(connection, _WAL_FILE_NOW) <= last:
        await _switch(connection)  # fills the rest of the file with zeros
        passed += 1
    await connection.execute("CHECKPOINT")
    kept = [name for name in await _wal_files(connection) if name <= began_in]
    if not kept:
        return passed, []
    why = "by wal_keep_size, a replication slot or an archiver that is behind"
    return passed, [f"{len(kept)} files of the write-ahead log are kept {why}"]


async def _switch(connection: Connection) -> None:
    # Without anything in it, a file is not left.
    await connection.execute("SELECT pg_logical_emit_message(false, 'sessiontrail', 'scrub')")
    await connection.execute("SELECT pg_switch_wal()")


async def _wal_files(connection: Connection) -> list[str]:
    cursor = await connection.execute(_WAL_FILES)
    return [record[0] for record in await cursor.fetchall()]


async def _value(  # Any: of whatever type
    connection: Connection, query: str, values: Mapping[str, object] | None = None
) -> Any:  # noqa: ANN401
    """The one value of a query."""
    cursor = await connection.execute(query.encode(), values)
    record = await cursor.fetchone()
    return None if record is None else record[0]
