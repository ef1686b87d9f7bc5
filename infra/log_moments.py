"""What of the log leads up to a moment: a snapshot to go on from, and the ranges behind it.

For an instant, the bundles of the tree's index say between which times their events happened, so
that only those are read that can matter; what the tree does not cover yet is read anyway. Without
snapshots or bundles everything works as well, only slower.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from domain.archives import Archive, ArchivedError
from domain.as_of import (
    AlteredHistoryError,
    AsOf,
    AtInstant,
    AtLeaf,
    AtPosition,
    UnknownPlaceError,
)
from infra.instants import OUT_OF_RANGE, any_instant_cursor
from infra.log_archives import newest_archive
from infra.postgres import Connection
from infra.snapshot_store import Snapshot, boundary_snapshot, newest_snapshot
from infra.tail import START, Place

_BUNDLE = 256
END = Place(2**63 - 1, 2**63 - 1)
"""Behind every event."""

_FIRST = "SELECT occurred_at FROM events ORDER BY transaction_id, position LIMIT 1"
_OF_POSITION = "SELECT transaction_id, position, occurred_at FROM events WHERE position = %s"
_OF_LEAF = """
SELECT e.transaction_id, e.position, e.occurred_at
  FROM entry_bundles b, events e
 WHERE b.bundle = %(bundle)s
   AND %(leaf)s < (SELECT max(size) FROM tree_heads)
   AND e.transaction_id >= b.transaction_id
   AND (e.transaction_id, e.position) >= (b.transaction_id, b.position)
 ORDER BY e.transaction_id, e.position
OFFSET %(within)s LIMIT 1
"""

# Of each bundle that may hold something: where it begins, and where the next one does.
_BUNDLES = """
SELECT transaction_id, position, next_transaction_id, next_position
  FROM (SELECT transaction_id, position, earliest_at,
               lead(transaction_id) OVER in_order AS next_transaction_id,
               lead(position) OVER in_order AS next_position
          FROM entry_bundles WINDOW in_order AS (ORDER BY transaction_id, position)) b
 WHERE (earliest_at <= %(until)s OR next_position IS NULL)
   AND (next_position IS NULL
        OR (next_transaction_id, next_position) > (%(xid)s::text::xid8, %(position)s))
 ORDER BY transaction_id, position
"""


class Range(NamedTuple):
    """A part of the log: behind one place, up to and with another."""

    after: Place
    up_to: Place


@dataclass(frozen=True, slots=True)
class Moment:
    """What leads up to a moment.

    Attributes:
        start: What to go on from; None for nothing.
        ranges: What to fold onto it, in order.
        until: Events after that are left out; None where the place alone decides.
        at: The instant that the moment is: what has expired is judged by it.
    """

    start: Snapshot | None
    ranges: tuple[Range, ...]
    until: datetime | None
    at: datetime


async def moment_of(reader: Connection, as_of: AsOf, *, from_snapshots: bool = True) -> Moment:
    """Find what leads up to a moment.

    Args:
        reader: Sees one instant of the database.
        as_of: The moment.
        from_snapshots: Whether to use them; else everything is folded from the start, or from
            where the log begins behind what is archived.

    Raises:
        UnknownPlaceError: There is no such place.
        ArchivedError: What leads up to it is archived.
        AlteredHistoryError: The snapshot to go on from, or the event there, was altered.
    """
    archive = await newest_archive(reader)
    first = None if archive is None else await boundary_snapshot(reader, archive)
    match as_of:
        case AtInstant(at):
            if archive and first and at < first.latest_at:
                raise ArchivedError(f"what happened by {as_of}", archive)
            start = await newest_snapshot(reader, until=at) if from_snapshots else first
            ranges = await _ranges_until(reader, start.place if start else START, at)
            return Moment(start, ranges, at, at)
        case AtPosition() | AtLeaf():
            place, at = await _place_of(reader, as_of, archive)
            if archive and first and place < first.place:
                raise ArchivedError(f"what lies before {as_of}", archive)
            start = await newest_snapshot(reader, up_to=place) if from_snapshots else first
            return Moment(start, (Range(start.place if start else START, place),), None, at)


async def earliest_instant(reader: Connection) -> datetime | None:
    """The earliest instant that something leads up to; None where nothing ever happened.

    Raises:
        TamperedSnapshotError: The log begins behind a snapshot that was altered.
    """
    archive = await newest_archive(reader)
    if archive is not None:
        return (await boundary_snapshot(reader, archive)).latest_at
    cursor = await reader.execute(_FIRST, binary=True)
    record = await cursor.fetchone()
    return None if record is None else record[0]


async def _place_of(
    reader: Connection, as_of: AtPosition | AtLeaf, archive: Archive | None
) -> tuple[Place, datetime]:
    cursor = any_instant_cursor(reader)
    if isinstance(as_of, AtPosition):
        await cursor.execute(_OF_POSITION, (as_of.position,))
        missing = f"no event has position {as_of.position}"
    else:
        if archive is not None and as_of.leaf < archive.end_leaf:
            raise ArchivedError(f"leaf {as_of.leaf}", archive)
        bundle, within = divmod(as_of.leaf, _BUNDLE)
        parameters = {"bundle": bundle, "leaf": as_of.leaf, "within": within}
        await cursor.execute(_OF_LEAF, parameters)
        missing = f"the tree has no leaf {as_of.leaf} so far"
    record = await cursor.fetchone()
    if record is None:
        if archive is not None:
            missing += f" in the database; the oldest are in {archive.file_name}"
        raise UnknownPlaceError(missing)
    transaction_id, position, at = record
    if at == OUT_OF_RANGE:
        msg = f"event {position} has a time that cannot be: run `sessiontrail audit verify`"
        raise AlteredHistoryError(msg)
    return Place(transaction_id, position), at


async def _ranges_until(reader: Connection, after: Place, until: datetime) -> tuple[Range, ...]:
    """What may have happened by then, behind a place."""
    parameters = {"until": until, "xid": str(after.transaction_id), "position": after.position}
    cursor = await reader.execute(_BUNDLES, parameters, binary=True)
    ranges: list[Range] = []
    for transaction_id, position, next_transaction_id, next_position in await cursor.fetchall():
        begin = max(_before(Place(transaction_id, position)), after)
        end = END if next_position is None else _before(Place(next_transaction_id, next_position))
        if ranges and ranges[-1].up_to == begin:
            ranges[-1] = Range(ranges[-1].after, end)
        else:
            ranges.append(Range(begin, end))
    return tuple(ranges) or (Range(after, END),)  # no bundles: nobody sequences


def _before(place: Place) -> Place:
    """A place between the event there and the one before it."""
    return Place(place.transaction_id, place.position - 1)
