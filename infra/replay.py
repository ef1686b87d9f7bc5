"""Time travel: the states of everybody, or of one user, as they stood at a moment."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.as_of import AlteredHistoryError, AsOf
from domain.ids import UserId
from infra.log_moments import Moment, Range, moment_of
from infra.postgres import Connection
from infra.projection_folds import snapshot as one_instant
from infra.snapshot_store import states_in
from projections.folding import StoredEvent
from projections.replaying import LogFold, StateKind, prefix_of, subject_of
from projections.snapshot_states import EVERYBODY, Buckets, bucket_of, parts_of

_BATCH = 2_000
_CONDITIONS = """
  FROM events
 WHERE transaction_id BETWEEN %(from_xid)s::text::xid8 AND %(to_xid)s::text::xid8
   AND (transaction_id, position) > (%(from_xid)s::text::xid8, %(from_position)s)
   AND (transaction_id, position) <= (%(to_xid)s::text::xid8, %(to_position)s)
   AND (%(until)s::timestamptz IS NULL OR occurred_at <= %(until)s)
   AND split_part(stream, '-', 1) = ANY(%(kinds)s)
"""
_OF_USER = " AND subject_id = %(user_id)s"
_OF_BUCKETS = """
   AND right(subject_id::text, 4) COLLATE "C" BETWEEN %(first)s AND %(last)s
"""
_EVENTS = (
    "SELECT stream, version, type, schema_version, occurred_at,"
    " convert_to(data::text, 'UTF8'), event_id::text, personal"
)
_ORDER = " ORDER BY transaction_id, position"
_EXISTS = """
SELECT EXISTS (SELECT FROM events
 WHERE hashtextextended(stream, 0) = hashtextextended(%s, 0) AND stream = %s AND version = %s)
"""

Whose = UserId | Buckets
"""One user, or everybody in some buckets."""
Counted = Callable[[int], None]
"""Told how many events were folded, after each piece."""


def not_counted(_: int) -> None:
    """For those who show no progress."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Reads the past, all of it in one instant of the database."""

    reader: Connection

    async def moment(self, as_of: AsOf, *, from_snapshots: bool = True) -> Moment:
        """See ``infra.log_moments.moment_of``."""
        return await moment_of(self.reader, as_of, from_snapshots=from_snapshots)

    async def count(self, moment: Moment, kinds: Sequence[StateKind], whose: Whose) -> int:
        """How many events ``fold`` would fold."""
        events = 0
        for each in moment.ranges:
            query, parameters = _conditions(moment, each, kinds, whose)
            cursor = await self.reader.execute(f"SELECT count(*) {query}".encode(), parameters)
            row = await cursor.fetchone()
            events += row[0] if row else 0
        return events

    async def fold(
        self,
        moment: Moment,
        kinds: Sequence[StateKind],
        whose: Whose,
        counted: Counted = not_counted,
    ) -> LogFold:
        """The states as they stood at a moment; what is personal stays sealed.

        Raises:
            UnknownEventError: A newer build wrote to that part of the log.
            TamperedSnapshotError: What it goes on from was altered.
            AlteredHistoryError: A row holds what no build of ours writes.
        """
        fold = LogFold()
        if moment.start is not None:
            of = whose if isinstance(whose, Buckets) else _bucket_alone(whose)
            states = await states_in(self.reader, moment.start, kinds, of)
            fold = LogFold(state for state in states if _concerns(subject_of(state), whose))
        for each in moment.ranges:
            query, parameters = _conditions(moment, each, kinds, whose)
            async with self.reader.cursor("replay") as cursor:
                await cursor.execute(f"{_EVENTS}{query}{_ORDER}".encode(), parameters, binary=True)
                while records := await _next_events(cursor):
                    fold.feed(records)
                    counted(len(records))
        await self._look_for_missing(fold)
        return fold

    async def _look_for_missing(self, fold: LogFold) -> None:
        """A stream whose next event lies behind the moment is sound; one that has none is not."""
        for each in fold.waiting:
            cursor = await self.reader.execute(_EXISTS, (each.stream, each.stream, each.due))
            row = await cursor.fetchone()
            if row is None or not row[0]:
                fold.damage(each.stream, f"version {each.came} where version {each.due} is due")


async def _next_events(cursor: psycopg.AsyncServerCursor[tuple[Any, ...]]) -> list[StoredEvent]:
    """Any: rows as they come."""
    try:
        return cast("list[StoredEvent]", await cursor.fetchmany(_BATCH))
    except psycopg.DataError as error:  # such as a time that Python has no value for
        msg = "an event holds what cannot have been written: run `sessiontrail audit verify`"
        raise AlteredHistoryError(msg) from error


@asynccontextmanager
async def replaying(engine: AsyncEngine) -> AsyncIterator[Replay]:
    """Read the past as one instant of the database has it, for as long as the block lasts."""
    async with one_instant(engine) as reader:
        yield Replay(reader)


def in_parts(moment: Moment) -> list[Buckets]:
    """Everybody, some users at a time: as many parts as keep memory bounded."""
    return (
        [EVERYBODY] if moment.start is None else parts_of(moment.start.states, moment.start.chunks)
    )


def _bucket_alone(user_id: UserId) -> Buckets:
    bucket = bucket_of(user_id)
    return Buckets(bucket, bucket + 1)


def _concerns(subject: UserId, whose: Whose) -> bool:
    if isinstance(whose, Buckets):
        return whose.first <= bucket_of(subject) < whose.beyond
    return subject == whose


def _conditions(
    moment: Moment, part: Range, kinds: Sequence[StateKind], whose: Whose
) -> tuple[str, dict[str, object]]:
    parameters: dict[str, object] = {
        "from_xid": str(part.after.transaction_id),
        "from_position": part.after.position,
        "to_xid": str(part.up_to.transaction_id),
        "to_position": part.up_to.position,
        "until": moment.until,
        "kinds": [prefix_of(kind).rstrip("-") for kind in kinds],
    }
    if not isinstance(whose, Buckets):
        return _CONDITIONS + _OF_USER, parameters | {"user_id": whose}
    if whose == EVERYBODY:
        return _CONDITIONS, parameters
    first, last = f"{whose.first:04x}", f"{whose.beyond - 1:04x}"
    return _CONDITIONS + _OF_BUCKETS, parameters | {"first": first, "last": last}
