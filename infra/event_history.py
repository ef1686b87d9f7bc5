"""Histories for auditors, out of the log itself; opening what is personal in them is an event."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.audit_history import (
    AuditEntry,
    HistoryOf,
    HistoryPage,
    HistoryScope,
    InvalidCursorError,
    NothingToRevealError,
    UnknownHistoryError,
    shown_data,
)
from domain.events.envelope import Cause, NewEvent
from domain.events.personal import Personal, Sealed
from domain.events.reveals import PersonalDataRevealed
from domain.ids import (
    REVEALS_STREAM,
    AlertId,
    FamilyId,
    Stream,
    UserId,
    alert_stream,
    family_stream,
)
from infra.event_store import append_in_turn
from infra.instants import any_instant_cursor
from infra.log_archives import archived_files
from infra.postgres import Connection, transaction
from infra.sealing import DataKeys, UnsealError
from infra.subject_keys import hold_subject_keys, subject_keys

_COLUMNS = """
SELECT position, transaction_id, stream, version, event_id, type, schema_version, occurred_at,
       subject_id, actor, correlation_id, causation_id, convert_to(data::text, 'UTF8'), personal
  FROM events
"""
_OF_USER = f"""{_COLUMNS}
 WHERE subject_id = %(user_id)s
   AND (transaction_id, position) > (%(xid)s::text::xid8, %(position)s)
 ORDER BY transaction_id, position
 LIMIT %(limit)s
"""
_OF_STREAM = f"""{_COLUMNS}
 WHERE hashtextextended(stream, 0) = hashtextextended(%(stream)s, 0) AND stream = %(stream)s
   AND version > %(version)s
 ORDER BY version
 LIMIT %(limit)s
"""
_FAMILY_OF_SESSION = "SELECT family_id FROM sessions WHERE session_id = %s"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reveal:
    """A history that may be read opened: that somebody does is on record."""

    of: HistoryOf


class AuditHistories:
    """``api.audit_ports.AuditHistories`` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine, data_keys: DataKeys) -> None:
        """Read through this pool, opening with these data keys."""
        self._engine = engine
        self._data_keys = data_keys

    async def page(self, of: HistoryOf, *, after: str | None, limit: int) -> HistoryPage:
        """Some of a history, sealed.

        Args:
            of: Whose history.
            after: ``next_after`` of the page before.
            limit: At most so many events.

        Raises:
            UnknownHistoryError: The log has nothing of it.
            InvalidCursorError: ``after`` is none of this history.
        """
        async with transaction(self._engine) as connection:
            records, next_after = await self._records(connection, of, after, limit)
            archived = await archived_files(connection)
        return HistoryPage([_entry(record, None) for record in records], next_after, archived)

    async def record_reveal(self, of: HistoryOf, reason: str, cause: Cause) -> Reveal:
        """Put on record that somebody has a history opened, and why; then they may.

        Args:
            of: Whose history.
            reason: In their words; sealed like what they look at.
            cause: Who.

        Raises:
            UnknownHistoryError: The log has nothing of it.
            NothingToRevealError: Whoever it is about was erased.
        """
        async with transaction(self._engine) as connection:
            records, _ = await self._records(connection, of, None, 1)
            subject_id: UserId | None = records[0][8]
            held = {} if subject_id is None else await hold_subject_keys(connection, [subject_id])
            if subject_id is None or subject_id not in held:
                msg = "whoever it is about was erased: there is nothing left to open"
                raise NothingToRevealError(msg)
            event = PersonalDataRevealed(scope=of.scope, scope_id=of.id)
            await append_in_turn(
                connection,
                REVEALS_STREAM,
                NewEvent(event, Personal(comment=reason)),
                cause,
                subject_id=subject_id,
                data_key=self._data_keys.unwrap(held[subject_id], subject_id),
            )
        return Reveal(of)

    async def revealed_page(self, reveal: Reveal, *, after: str | None, limit: int) -> HistoryPage:
        """The same as ``page``, opened as far as keys exist."""
        async with transaction(self._engine) as connection:
            records, next_after = await self._records(connection, reveal.of, after, limit)
            subjects = {record[8] for record in records if record[8] is not None}
            keys = await subject_keys(connection, subjects, self._data_keys)
            archived = await archived_files(connection)
        entries = []
        for record in records:
            box, key = record[13], keys.get(record[8])
            personal = None
            if box is not None and key is not None:
                try:
                    personal = without_secrets(key.open(Sealed(record[4], box)))
                except UnsealError as error:
                    _log.error("event %s stays sealed: %s", record[4], error)
            entries.append(_entry(record, personal))
        return HistoryPage(entries, next_after, archived)

    async def revealed(
        self, of: HistoryOf, *, reason: str, cause: Cause, after: str | None, limit: int
    ) -> HistoryPage:
        """See ``api.audit_ports.AuditHistories.revealed``."""
        reveal = await self.record_reveal(of, reason, cause)
        return await self.revealed_page(reveal, after=after, limit=limit)

    async def _records(
        self, connection: Connection, of: HistoryOf, after: str | None, limit: int
    ) -> tuple[Sequence[tuple[Any, ...]], str | None]:
        """Rows as they come (Any), and where the next page begins."""
        if of.scope is HistoryScope.USER:
            xid, position = (0, 0) if after is None else _two_numbers(after)
            parameters = {"user_id": of.id, "xid": str(xid), "position": position}
            query = _OF_USER
        else:
            version = 0 if after is None else _number(after)
            parameters = {"stream": await _stream_of(connection, of), "version": version}
            query = _OF_STREAM
        cursor = any_instant_cursor(connection)
        await cursor.execute(query.encode(), {**parameters, "limit": limit + 1})
        records = await cursor.fetchall()
        if not records and after is None:
            msg = f"the log has no {of.scope} {of.id}"
            if files := await archived_files(connection):
                msg += f" but perhaps in {', '.join(files)}"
            raise UnknownHistoryError(msg)
        if len(records) <= limit:
            return records, None
        last = records[limit - 1]
        in_stream = of.scope is not HistoryScope.USER
        return records[:limit], str(last[3]) if in_stream else f"{last[1]}.{last[0]}"


def without_secrets(personal: Personal) -> Personal:
    """Without the hash of the device cookie."""
    client = personal.client
    if client is None:
        return personal
    return replace(personal, client=replace(client, device_key=None))


async def _stream_of(connection: Connection, of: HistoryOf) -> Stream:
    match of.scope:
        case HistoryScope.ALERT:
            return alert_stream(AlertId(of.id))
        case HistoryScope.SESSION:
            cursor = await connection.execute(_FAMILY_OF_SESSION, (of.id,), binary=True)
            record = await cursor.fetchone()
            return family_stream(FamilyId(of.id if record is None else record[0]))
        case _:
            return family_stream(FamilyId(of.id))


def _two_numbers(cursor: str) -> tuple[int, int]:
    xid, _, position = cursor.partition(".")
    return _number(xid), _number(position)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(2**63)) - 1:
        msg = "that is not a cursor of this history"
        raise InvalidCursorError(msg)
    return int(text)


def _entry(record: tuple[Any, ...], personal: Personal | None) -> AuditEntry:
    """Any: a row as it came."""
    (
        position, _, stream, version, event_id, type_, schema_version, at,
        subject_id, actor, correlation_id, causation_id, data, box,
    ) = record  # fmt: skip
    return AuditEntry(
        position=position,
        stream=stream,
        version=version,
        event_id=event_id,
        type=type_,
        at=at,
        subject_id=subject_id,
        actor=actor,
        correlation_id=correlation_id,
        causation_id=causation_id,
        data=shown_data(type_, schema_version, data),
        sealed=box is not None,
        personal=personal,
    )
