"""Earlier sign-ins into the detector's states: one transaction, which no worker works beside.

Users are found, and registered where they are unknown, in transactions of their own: nobody who
signs in meanwhile has to wait for a row that a long import holds.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.envelope import Cause, NewEvent
from domain.events.imports import SignInsImported
from domain.events.users import UserOrigin
from domain.ids import IMPORTS_STREAM, SYSTEM_SUBJECT, UserId, parse_uuid
from domain.refusals import Refusal
from domain.texts import InvalidTextError, normalise_username
from domain.user import RegisterUser
from infra.detector_leases import hold_all_partitions
from infra.detector_states import DetectorStates
from infra.event_store import append_stream, database_clock, stream_version
from infra.ids import new_uuid
from infra.postgres import Connection, transaction
from infra.user_commands import PostgresUserCommands

_FIND = """
SELECT 1, user_id::text, user_id::text FROM users WHERE user_id = ANY(%(ids)s::uuid[])
UNION ALL
SELECT 2, username, user_id::text FROM users WHERE username = ANY(%(usernames)s)
UNION ALL
SELECT 3, external_subject, user_id::text FROM users WHERE external_subject = ANY(%(names)s)
"""
_IMPORTED = """
SELECT 1 FROM events
 WHERE hashtextextended(stream, 0) = hashtextextended(%(stream)s, 0) AND stream = %(stream)s
   AND type = %(type)s AND data->>'sha256' = %(sha256)s
"""


class AlreadyImportedError(Exception):
    """The same file was imported before: its sign-ins must not count twice."""


async def known_users(engine: AsyncEngine, names: Collection[str]) -> dict[str, UserId]:
    """Who the users of a file are here: by user id, else by user name, else by external subject.

    Args:
        engine: The pool.
        names: As the file has them.

    Returns:
        Those that are known.
    """
    ids = {name: parsed for name in names if (parsed := parse_uuid(name)) is not None}
    usernames = {name: folded for name in names if (folded := _folded(name)) is not None}
    storable = [name for name in names if "\0" not in name]
    async with transaction(engine) as connection:
        cursor = await connection.execute(
            _FIND,
            {
                "ids": list(ids.values()),
                "usernames": list(usernames.values()),
                "names": storable,
            },
        )
        found = {(kind, value): UserId(user_id) for kind, value, user_id in await cursor.fetchall()}
    users: dict[str, UserId] = {}
    for name in names:
        user_id = (
            found.get((1, ids.get(name)))
            or found.get((2, usernames.get(name)))
            or found.get((3, name))
        )
        if user_id is not None:
            users[name] = user_id
    return users


async def register_external(users: PostgresUserCommands, subject: str, cause: Cause) -> bool:
    """Register a user that a backend keeps; False where somebody else just did."""
    command = RegisterUser(origin=UserOrigin.EXTERNAL, external_subject=subject)
    user_id = UserId(new_uuid())
    return not isinstance(await users.register(user_id, command, None, cause), Refusal)


async def refuse_imported(engine: AsyncEngine, sha256: str) -> datetime:
    """Look whether a file was imported before, before anything is done with it.

    Returns:
        The database's clock.

    Raises:
        AlreadyImportedError: It was.
    """
    async with transaction(engine) as connection:
        await _refuse_imported(connection, sha256)
        return await database_clock(connection)


class Import:
    """An import under way."""

    def __init__(self, connection: Connection) -> None:
        """Work within a transaction that holds all partitions."""
        self._connection = connection
        self.states = DetectorStates(connection)

    async def record(self, imported: SignInsImported, cause: Cause) -> None:
        """Put on record what was imported."""
        await append_stream(
            self._connection,
            IMPORTS_STREAM,
            await stream_version(self._connection, IMPORTS_STREAM),
            [NewEvent(imported)],
            cause,
            await database_clock(self._connection),
            subject_id=SYSTEM_SUBJECT,
        )


@asynccontextmanager
async def importing(engine: AsyncEngine, sha256: str) -> AsyncIterator[Import]:
    """A transaction that changes the detector's states while its workers wait; all or nothing.

    Args:
        engine: The pool.
        sha256: Of the file.

    Raises:
        AlreadyImportedError: It was imported before.
        StoreUnavailableError: The database cannot serve.
    """
    async with transaction(engine) as connection:
        await hold_all_partitions(connection)
        await _refuse_imported(connection, sha256)
        yield Import(connection)


async def _refuse_imported(connection: Connection, sha256: str) -> None:
    values = {"stream": IMPORTS_STREAM, "type": SignInsImported.TYPE, "sha256": sha256}
    cursor = await connection.execute(_IMPORTED, values)
    if await cursor.fetchone() is not None:
        msg = "this file was imported before; its sign-ins would count twice"
        raise AlreadyImportedError(msg)


def _folded(name: str) -> str | None:
    try:
        return normalise_username(name)
    except InvalidTextError:
        return None
