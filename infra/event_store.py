"""The append: events and the new state in one statement, guarded by the expected version.

``append_families`` is the one way that anything happens to a session family, ``append_user`` to a
user, ``append_stream`` to a stream without a state. All of them send one JSON document that the
database unfolds: that costs the client a few microseconds a row, whatever the number of columns.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from domain.events.envelope import Cause, NewEvent
from domain.family import Family
from domain.ids import FamilyId, Stream, UserId, family_stream, user_stream
from domain.ports import Subject
from domain.user import User
from infra.event_rows import (
    EVENT_COLUMNS,
    EVENT_RECORD,
    EVENT_VALUES,
    EventRow,
    StreamConflictError,
    document,
    event_document,
    event_row,
    insert,
)
from infra.postgres import Connection
from infra.sealing import DataKey
from projections.session_rows import SESSION_COLUMNS, SessionRow, family_of, rows_of


class FamilyAppend(msgspec.Struct, frozen=True, kw_only=True):
    """Events for one family, with the state that they lead to.

    Attributes:
        before: The state they were decided on, or None for a new family.
        after: The state with them folded in.
        events: In order; each with its cause.
        data_key: The subject's data key, to seal the personal parts with; None where they are
            erased, and no event has such a part.
        at: When they happened.
    """

    before: Family | None
    after: Family
    events: Sequence[tuple[NewEvent, Cause]]
    data_key: DataKey | None
    at: datetime


class LoadedFamily(msgspec.Struct, frozen=True):
    """A family as read for a command, with what the command's answer needs of its user."""

    family: Family
    subject: Subject
    wrapped_key: bytes | None


_FIXED_COLUMNS = {
    "session_id", "family_id", "ordinal", "user_id", "client_id", "expires_at", "delivery",
    "persistent", "started_at", "idle_timeout_s",
}  # fmt: skip
_CHANGING = [column for column in SESSION_COLUMNS if column not in _FIXED_COLUMNS]
_CHANGING_TYPES = {
    "family_version": "int", "generation": "bigint", "token_key": "int",
    "late_retries": "timestamptz[]", "client": "jsonb", "auth_methods": "text[]",
    "signed_in_at": "timestamptz", "step_up_required_at": "timestamptz",
    "rotated_at": "timestamptz", "last_seen_at": "timestamptz", "idle_expires_at": "timestamptz",
    "refusal_recorded_at": "timestamptz", "ended_at": "timestamptz",
}  # fmt: skip
_CHANGE_RECORD = ", ".join(
    f"{column} {_CHANGING_TYPES.get(column, 'text')}" for column in _CHANGING
)

_LOAD = f"""
SELECT {", ".join("s." + column for column in SESSION_COLUMNS)},
       coalesce(u.external_subject, u.user_id::text), u.roles, k.wrapped_key, clock_timestamp()
  FROM sessions s
  JOIN users u ON u.user_id = s.user_id
  LEFT JOIN data_keys k ON k.subject_id = s.user_id
 WHERE s.family_id = ANY(%b::uuid[])
 ORDER BY s.family_id, s.ordinal
"""  # noqa: S608 (column names are ours)

# Nobody waits here: a row that another transaction holds is passed over, so that one family cannot
# hold a batch up. One that another writer moved on fails the version guard (READ COMMITTED looks
# again once the lock is granted), and so does one whose user was erased meanwhile: an ended family
# keeps its version then, but not its client. Either way the family drops out, all its rows or none,
# and its events with it.
_UPDATE = f"""
WITH change AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset(%b)
    AS c(session_id uuid, family_id uuid, expected_version int, {_CHANGE_RECORD})
), held AS MATERIALIZED (
  SELECT s.session_id
    FROM sessions s JOIN change c ON c.session_id = s.session_id
   WHERE s.family_version = c.expected_version
     AND (s.client IS NOT NULL OR c.client IS NULL)
     FOR UPDATE OF s SKIP LOCKED
), whole AS MATERIALIZED (
  SELECT c.family_id
    FROM change c LEFT JOIN held h ON h.session_id = c.session_id
   GROUP BY c.family_id
  HAVING count(h.session_id) = count(*)
), updated AS (
  UPDATE sessions s SET {", ".join(f"{column} = c.{column}" for column in _CHANGING)}
    FROM change c JOIN whole w ON w.family_id = c.family_id
   WHERE s.session_id = c.session_id
  RETURNING s.family_id
), accepted AS MATERIALIZED (
  SELECT DISTINCT family_id FROM updated
), appended AS (
  INSERT INTO events ({EVENT_COLUMNS})
  SELECT {EVENT_VALUES}
    FROM jsonb_to_recordset(%b) AS e({EVENT_RECORD})
    JOIN accepted a ON e.stream = 'family-' || a.family_id
   ORDER BY stream, version
)
SELECT family_id FROM accepted
"""  # noqa: S608 (column names are ours)

_SESSION_TYPES = _CHANGING_TYPES | {
    "session_id": "uuid", "family_id": "uuid", "ordinal": "smallint", "user_id": "uuid",
    "expires_at": "timestamptz", "persistent": "boolean", "started_at": "timestamptz",
    "idle_timeout_s": "int",
}  # fmt: skip
_SESSION_RECORD = ", ".join(
    f"{column} {_SESSION_TYPES.get(column, 'text')}" for column in SESSION_COLUMNS
)
_INSERT = f"""
WITH started AS (
  INSERT INTO sessions ({", ".join(SESSION_COLUMNS)})
  SELECT {", ".join(SESSION_COLUMNS)} FROM jsonb_to_recordset(%b) AS s({_SESSION_RECORD})
)
INSERT INTO events ({EVENT_COLUMNS})
SELECT {EVENT_VALUES} FROM jsonb_to_recordset(%b) AS e({EVENT_RECORD}) ORDER BY stream, version
"""  # noqa: S608 (column names are ours)

_APPEND = f"""
INSERT INTO events ({EVENT_COLUMNS})
SELECT {EVENT_VALUES} FROM jsonb_to_recordset(%b) AS e({EVENT_RECORD}) ORDER BY stream, version
"""  # noqa: S608 (column names are ours)

_PUT_USER = """
INSERT INTO users (user_id, version, origin, username, external_subject, roles, registered_at,
                   disabled_at, credential_epoch, erased_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (user_id) DO UPDATE
   SET version = excluded.version, username = excluded.username,
       external_subject = excluded.external_subject, roles = excluded.roles,
       disabled_at = excluded.disabled_at, credential_epoch = excluded.credential_epoch,
       erased_at = excluded.erased_at
 WHERE users.version = %s
"""


async def load_families(
    connection: Connection, family_ids: Sequence[FamilyId]
) -> tuple[dict[FamilyId, LoadedFamily], datetime]:
    """Read families for commands.

    Returns:
        Those that exist, by id, and the database's clock.
    """
    cursor = await connection.execute(_LOAD, (list(family_ids),), binary=True)
    records = await cursor.fetchall()
    if not records:
        return {}, await database_clock(connection)
    families: dict[FamilyId, LoadedFamily] = {}
    width = len(SESSION_COLUMNS)
    rows: list[SessionRow] = []
    for index, record in enumerate(records):
        rows.append(SessionRow(*record[:width]))
        following = records[index + 1] if index + 1 < len(records) else None
        if following is None or following[1] != record[1]:
            subject, roles, wrapped_key = record[width : width + 3]
            families[record[1]] = LoadedFamily(
                family_of(rows), Subject(subject, roles), wrapped_key
            )
            rows = []
    return families, records[0][-1]


async def database_clock(connection: Connection) -> datetime:
    """The database's clock: the one that decides every expiry."""
    cursor = await connection.execute("SELECT clock_timestamp()", binary=True)
    row = await cursor.fetchone()
    return row[0]  # type: ignore[index,no-any-return]  # a SELECT of one value has one row


async def update_families(connection: Connection, appends: Sequence[FamilyAppend]) -> set[FamilyId]:
    """Append to existing families, each guarded by its own version.

    One statement, so one commit: outside a transaction it is its own. It waits for no other writer.

    Returns:
        The families that were appended to; for the rest another writer was faster, or is at it.
    """
    changes = []
    for append in appends:
        expected = append.before.version if append.before is not None else 0
        for row in rows_of(append.after):
            change = {column: getattr(row, column) for column in _CHANGING}
            change["session_id"] = row.session_id
            change["family_id"] = row.family_id
            change["expected_version"] = expected
            changes.append(change)
    events = [row for append in appends for row in _family_event_rows(append)]
    cursor = await connection.execute(
        _UPDATE, (document(changes), event_document(events)), binary=True
    )
    return {record[0] for record in await cursor.fetchall()}


async def insert_families(connection: Connection, appends: Sequence[FamilyAppend]) -> None:
    """Append the first events of new families.

    Raises:
        StreamConflictError: One of them exists already.
    """
    rows = [row for append in appends for row in rows_of(append.after)]
    events = [row for append in appends for row in _family_event_rows(append)]
    await insert(connection, _INSERT, document(rows_as_maps(rows)), event_document(events))


async def append_user(
    connection: Connection,
    before: User | None,
    after: User,
    events: Sequence[NewEvent],
    cause: Cause,
    data_key: DataKey | None,
    at: datetime,
) -> None:
    """Append to a user's stream and put the row that the events lead to.

    Raises:
        StreamConflictError: Another writer was faster.
        psycopg.errors.UniqueViolation: The user name or subject is taken.
    """
    version = before.version if before is not None else 0
    cursor = await connection.execute(
        _PUT_USER,
        (
            after.user_id,
            after.version,
            after.origin.value,
            after.username,
            after.external_subject,
            [role.value for role in after.roles],
            after.registered_at,
            after.disabled_at,
            after.credential_epoch,
            after.erased_at,
            version,
        ),
    )
    if cursor.rowcount != 1:
        msg = f"user {after.user_id} moved on"
        raise StreamConflictError(msg)
    await append_stream(
        connection,
        user_stream(after.user_id),
        version,
        events,
        cause,
        at,
        subject_id=after.user_id,
        data_key=data_key,
    )


async def append_stream(
    connection: Connection,
    stream: Stream,
    expected_version: int,
    events: Sequence[NewEvent],
    cause: Cause,
    at: datetime,
    *,
    subject_id: UserId | None = None,
    data_key: DataKey | None = None,
) -> None:
    """Append to any stream, guarded by its version alone.

    Raises:
        StreamConflictError: Another writer was faster.
    """
    rows = [
        event_row(stream, version, new, cause, at, subject_id, data_key)
        for version, new in enumerate(events, expected_version + 1)
    ]
    await insert(connection, _APPEND, event_document(rows))


async def append_in_turn(
    connection: Connection,
    stream: Stream,
    new: NewEvent,
    cause: Cause,
    *,
    subject_id: UserId | None,
    data_key: DataKey | None,
) -> None:
    """Append to a stream that anybody's deeds go on record in.

    Whoever else does so waits until this transaction ends, and so meets no conflict.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (stream,))
    await append_stream(
        connection,
        stream,
        await stream_version(connection, stream),
        [new],
        cause,
        await database_clock(connection),
        subject_id=subject_id,
        data_key=data_key,
    )


async def stream_version(connection: Connection, stream: Stream) -> int:
    """The version of a stream's last event; 0 where it has none."""
    cursor = await connection.execute(
        "SELECT coalesce(max(version), 0) FROM events"
        " WHERE hashtextextended(stream, 0) = hashtextextended(%s, 0) AND stream = %s",
        (stream, stream),
        binary=True,
    )
    row = await cursor.fetchone()
    return row[0] if row else 0


def rows_as_maps(rows: Sequence[SessionRow]) -> list[dict[str, object]]:
    """Session rows as the JSON objects that the database unfolds."""
    return [{column: getattr(row, column) for column in SESSION_COLUMNS} for row in rows]


def _family_event_rows(append: FamilyAppend) -> list[EventRow]:
    stream = family_stream(append.after.family_id)
    first = append.after.version - len(append.events) + 1
    return [
        event_row(stream, version, new, cause, append.at, append.after.user_id, append.data_key)
        for version, (new, cause) in enumerate(append.events, first)
    ]
