"""Taking snapshots: the states after every event up to a place, packed, and an event that says so.

Each goes on from the one before, so an event is folded once for it. No transaction that writes
lasts: chunks are put one by one, and only the last transaction makes a snapshot of them.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.canonical import microseconds
from domain.events.envelope import Cause, NewEvent
from domain.events.registry import UnknownEventError
from domain.events.snapshots import SnapshotTaken
from domain.ids import SNAPSHOTS_STREAM
from domain.ports import ConcurrencyError, StoreUnavailableError
from infra.event_store import append_stream, database_clock, stream_version
from infra.ids import new_uuid
from infra.log_moments import Moment, Range
from infra.postgres import Connection, transaction
from infra.projection_folds import Progress, own_connection, scalar
from infra.replay import Counted, replaying
from infra.snapshot_store import Snapshot, TamperedSnapshotError, newest_snapshot
from infra.tail import START, Place, newest_place
from projections.replaying import AnyState, LogFold, StateKind, kind_of, subject_of
from projections.snapshot_states import (
    DIGEST_BYTES,
    FORMAT,
    Buckets,
    bucket_of,
    chunk_of,
    chunks_for,
    digest,
    digest_index,
    pack,
    parts_of,
)

SNAPSHOT_EVENTS = 100_000
"""At least so many events lie between two snapshots: what a look at everybody has to fold."""

_LOCK = 7_305_802_116_530_213
"""Advisory lock of whoever takes a snapshot; the others leave it to them."""
_KINDS = tuple(StateKind)
_LEAVES_A_BUNDLE = 256
_log = logging.getLogger(__name__)

# New streams begin with version 1.
_BEHIND = """
SELECT count(*), count(*) FILTER (WHERE version = 1), max(occurred_at) FROM events
 WHERE transaction_id BETWEEN %(from_xid)s::text::xid8 AND %(to_xid)s::text::xid8
   AND (transaction_id, position) > (%(from_xid)s::text::xid8, %(from_position)s)
   AND (transaction_id, position) <= (%(to_xid)s::text::xid8, %(to_position)s)
   AND split_part(stream, '-', 1) = ANY(%(kinds)s)
"""
_BUNDLES_BEHIND = """
SELECT count(*) FROM entry_bundles
 WHERE (transaction_id, position) > (%s::text::xid8, %s)
"""
_UNFINISHED = """
DELETE FROM snapshot_chunks c
 WHERE NOT EXISTS (SELECT FROM snapshots s WHERE s.snapshot_id = c.snapshot_id)
"""
_PUT_CHUNK = """
INSERT INTO snapshot_chunks (snapshot_id, kind, chunk, states) VALUES (%s, %s, %s, %s)
"""
_PUT = """
INSERT INTO snapshots (snapshot_id, transaction_id, position, latest_at, taken_at, version,
                       format, digests)
VALUES (%s, %s::text::xid8, %s, %s, %s, %s, %s, %s)
"""


class SnapshotNotTakenError(Exception):
    """No snapshot can be taken of the log as it is; the message says why."""


@dataclass(frozen=True, slots=True)
class TakenSnapshot:
    """What was taken.

    Attributes:
        snapshot_id: Its id.
        place: The last event in it.
        states: How many states it holds.
        events: How many events it was folded from, behind the snapshot before.
        packed_bytes: The size of its chunks.
    """

    snapshot_id: str
    place: Place
    states: int
    events: int
    packed_bytes: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be folded onto what."""

    place: Place
    before: Snapshot | None
    events: int
    states: int
    latest_at: datetime


def _no_progress(_done: int, _total: int) -> None:
    """Nobody watches."""


async def take_snapshot(
    engine: AsyncEngine, cause: Cause, progress: Progress = _no_progress
) -> TakenSnapshot | None:
    """Take a snapshot of the log as far as nothing can appear in it any more.

    Args:
        engine: The pool; two connections are taken.
        cause: By whom.
        progress: Told how many events have been folded, and of how many.

    Returns:
        What was taken; None where nothing happened since the last one.

    Raises:
        SnapshotNotTakenError: Somebody else takes one, or the log is damaged.
        UnknownEventError: A newer build wrote to the log.
        TamperedSnapshotError: The one before was altered.
    """
    async with own_connection(engine) as writer, _alone(writer):
        await writer.execute(_UNFINISHED)
        plan = await _plan(engine)
        return None if plan is None else await _taken(engine, writer, plan, cause, progress)


async def snapshot_is_due(engine: AsyncEngine, least_events: int = SNAPSHOT_EVENTS) -> bool:
    """Whether so many events lie behind the last snapshot that taking one costs little an event.

    Twice as many as it holds states, and no fewer than ``least_events``; as far as the tree counts
    them.
    """
    async with transaction(engine) as connection:
        last = await newest_snapshot(connection)
        place = START if last is None else last.place
        cursor = await connection.execute(
            _BUNDLES_BEHIND, (str(place.transaction_id), place.position)
        )
        row = await cursor.fetchone()
    behind = (row[0] if row else 0) * _LEAVES_A_BUNDLE
    return bool(behind >= max(least_events, 2 * (last.states if last else 0)))


async def run_snapshots(
    engine: AsyncEngine,
    cause_of: Callable[[str], Cause],
    interval: timedelta,
    least_events: int = SNAPSHOT_EVENTS,
) -> None:
    """Take snapshots when they are due, until cancelled. Time travel works without, only slower.

    Args:
        engine: The pool.
        cause_of: Makes the cause of what a job does by itself.
        interval: How often to look.
        least_events: See ``snapshot_is_due``.
    """
    while True:
        try:
            if await snapshot_is_due(engine, least_events):
                taken = await take_snapshot(engine, cause_of("snapshots"))
                if taken is not None:
                    _log.info("took snapshot %s of %d states", taken.snapshot_id, taken.states)
        except (StoreUnavailableError, ConcurrencyError, SnapshotNotTakenError) as error:
            _log.warning("no snapshot was taken: %s", error)
        except (UnknownEventError, TamperedSnapshotError) as error:
            _log.error("no snapshot can be taken: %s", error)
        await asyncio.sleep(interval.total_seconds())


@asynccontextmanager
async def _alone(writer: Connection) -> AsyncIterator[None]:
    """Hold the lock for as long as the block lasts; it ends with the connection, too."""
    if not await scalar(writer, "SELECT pg_try_advisory_lock(%s)", (_LOCK,)):
        msg = "somebody else takes a snapshot just now"
        raise SnapshotNotTakenError(msg)
    try:
        yield
    finally:
        # The end of the connection does the same, a moment later.
        with contextlib.suppress(psycopg.Error):
            await writer.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


async def _plan(engine: AsyncEngine) -> _Plan | None:
    async with transaction(engine) as connection:
        place = await newest_place(connection)
        before = await newest_snapshot(connection, up_to=place)
        after = START if before is None else before.place
        cursor = await connection.execute(
            _BEHIND,
            {
                "from_xid": str(after.transaction_id),
                "from_position": after.position,
                "to_xid": str(place.transaction_id),
                "to_position": place.position,
                "kinds": [str(kind) for kind in _KINDS],
            },
        )
        row = await cursor.fetchone()
    if row is None or not row[0]:
        return None
    events, new_streams, latest_at = row
    if before is None:
        return _Plan(place, None, events, new_streams, latest_at)
    latest_at = max(latest_at, before.latest_at)
    return _Plan(place, before, events, before.states + new_streams, latest_at)


async def _taken(
    engine: AsyncEngine, writer: Connection, plan: _Plan, cause: Cause, progress: Progress
) -> TakenSnapshot:
    snapshot_id = new_uuid()
    chunks = chunks_for(plan.states)
    digests = bytearray(DIGEST_BYTES * chunks * len(_KINDS))
    states = packed_bytes = folded = 0

    def counted(events: int) -> None:
        nonlocal folded
        folded += events
        progress(folded, plan.events)

    for part in parts_of(plan.states, chunks):
        fold = await _folded(engine, plan, part, counted)
        states += len(fold.states)
        for (kind, chunk), members in _chunked(fold.states.values(), part, chunks).items():
            packed = pack(members)
            at = digest_index(kind, chunk, chunks) * DIGEST_BYTES
            digests[at : at + DIGEST_BYTES] = digest(packed)
            packed_bytes += len(packed)
            await writer.execute(_PUT_CHUNK, (snapshot_id, str(kind), chunk, packed), binary=True)
    event = SnapshotTaken(
        snapshot_id=snapshot_id,
        format=FORMAT,
        transaction_id=plan.place.transaction_id,
        position=plan.place.position,
        latest_at_us=microseconds(plan.latest_at),
        states=states,
        sha256=sha256(digests).hexdigest(),
    )
    async with writer.transaction():
        await _announce(writer, event, plan, bytes(digests), cause)
    return TakenSnapshot(snapshot_id, plan.place, states, plan.events, packed_bytes)


async def _announce(
    writer: Connection, event: SnapshotTaken, plan: _Plan, digests: bytes, cause: Cause
) -> None:
    version = await stream_version(writer, SNAPSHOTS_STREAM)
    at = await database_clock(writer)
    await writer.execute(
        _PUT,
        (
            event.snapshot_id,
            str(plan.place.transaction_id),
            plan.place.position,
            plan.latest_at,
            at,
            version + 1,
            FORMAT,
            digests,
        ),
        binary=True,
    )
    await append_stream(writer, SNAPSHOTS_STREAM, version, [NewEvent(event)], cause, at)


async def _folded(engine: AsyncEngine, plan: _Plan, part: Buckets, counted: Counted) -> LogFold:
    after = START if plan.before is None else plan.before.place
    moment = Moment(plan.before, (Range(after, plan.place),), None, plan.latest_at)
    async with replaying(engine) as replay:
        fold = await replay.fold(moment, _KINDS, part, counted)
    for damaged in fold.damaged:
        msg = f"the log is damaged: {damaged.stream}: {damaged.fault}"
        raise SnapshotNotTakenError(msg)
    for each in fold.waiting:  # it comes with a transaction that is still to end
        msg = f"{each.stream} has its version {each.came} before its version {each.due}"
        raise SnapshotNotTakenError(msg)
    return fold


def _chunked(
    states: Iterable[AnyState], part: Buckets, chunks: int
) -> dict[tuple[StateKind, int], list[AnyState]]:
    """States by kind and chunk; chunks of nobody too, so that each has its digest."""
    numbers = range(chunk_of(part.first, chunks), chunk_of(part.beyond - 1, chunks) + 1)
    result: dict[tuple[StateKind, int], list[AnyState]] = {
        (kind, chunk): [] for kind in _KINDS for chunk in numbers
    }
    for state in states:
        result[kind_of(state), chunk_of(bucket_of(subject_of(state)), chunks)].append(state)
    return result
