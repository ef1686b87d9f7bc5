"""Reading snapshots: nothing of one is believed that the log's own event does not vouch for.

The event has the hash over the digests, the digests have the chunks. So an altered snapshot is
refused, whoever altered it; and who alters the event is found by verifying the log.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from domain.archives import Archive
from domain.as_of import AlteredHistoryError
from domain.events.canonical import microseconds
from domain.events.registry import MalformedEventError, UnknownEventError, decode_event
from domain.events.snapshots import SnapshotTaken
from domain.ids import SNAPSHOTS_STREAM
from infra.instants import any_instant_cursor
from infra.postgres import Connection
from infra.tail import Place
from projections.replaying import AnyState, StateKind
from projections.snapshot_states import (
    DIGEST_BYTES,
    FORMAT,
    Buckets,
    UnreadableChunkError,
    chunk_of,
    chunks_in,
    digest,
    digest_index,
    parts_of,
    unpack,
)

_NEWEST = """
SELECT s.snapshot_id, s.transaction_id, s.position, s.latest_at, s.digests,
       e.type, e.schema_version, convert_to(e.data::text, 'UTF8')
  FROM snapshots s
  LEFT JOIN events e ON hashtextextended(e.stream, 0) = hashtextextended(%(stream)s, 0)
                    AND e.stream = %(stream)s AND e.version = s.version
 WHERE s.format = %(format)s
   AND (%(id)s::uuid IS NULL OR s.snapshot_id = %(id)s::uuid)
   AND (%(until)s::timestamptz IS NULL OR s.latest_at <= %(until)s)
   AND (%(xid)s::text IS NULL
        OR (s.transaction_id, s.position) <= (%(xid)s::text::xid8, %(position)s))
 ORDER BY s.transaction_id DESC, s.position DESC
 LIMIT 1
"""
_CHUNKS = """
SELECT kind, chunk, states FROM snapshot_chunks
 WHERE snapshot_id = %s AND kind = ANY(%s) AND chunk BETWEEN %s AND %s
"""


class TamperedSnapshotError(AlteredHistoryError):
    """A snapshot that is not as it was taken; the message has its id."""

    def __init__(self, snapshot_id: str, what: str) -> None:
        """Name the snapshot, and what of it was altered."""
        super().__init__(
            f"snapshot {snapshot_id} is not as the log says it was taken: {what}; "
            "nothing was read from it"
        )
        self.snapshot_id = snapshot_id


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The states after every event up to a place; as the log's event says.

    Attributes:
        snapshot_id: Its id.
        place: The last event in it.
        latest_at: The largest time of an event in it.
        states: How many states it holds.
        digests: SHA-256 of each chunk.
    """

    snapshot_id: str
    place: Place
    latest_at: datetime
    states: int
    digests: bytes

    @property
    def chunks(self) -> int:
        """How many chunks of each kind it has."""
        return chunks_in(self.digests)


async def newest_snapshot(
    reader: Connection, *, until: datetime | None = None, up_to: Place | None = None
) -> Snapshot | None:
    """The newest snapshot of a format that this build reads.

    Args:
        reader: Any connection.
        until: None of its events is later.
        up_to: None of its events lies behind that.

    Raises:
        TamperedSnapshotError: It is not as its event says.
    """
    return await _checked_snapshot(reader, None, until, up_to)


async def boundary_snapshot(reader: Connection, archive: Archive) -> Snapshot:
    """The snapshot that folds go on from behind an archive.

    Raises:
        TamperedSnapshotError: It is not as its event says, or is gone.
    """
    found = await _checked_snapshot(reader, archive.snapshot_id, None, None)
    if found is None:
        what = f"it is gone, or of another format; restore {archive.file_name}"
        raise TamperedSnapshotError(archive.snapshot_id, what)
    return found


async def _checked_snapshot(
    reader: Connection, snapshot_id: str | None, until: datetime | None, up_to: Place | None
) -> Snapshot | None:
    cursor = any_instant_cursor(reader)
    await cursor.execute(
        _NEWEST,
        {
            "stream": SNAPSHOTS_STREAM,
            "format": FORMAT,
            "id": snapshot_id,
            "until": until,
            "xid": None if up_to is None else str(up_to.transaction_id),
            "position": None if up_to is None else up_to.position,
        },
    )
    record = await cursor.fetchone()
    if record is None:
        return None
    snapshot_id, transaction_id, position, latest_at, digests, *event = record
    taken = _announced(snapshot_id, event)
    row = (snapshot_id, FORMAT, transaction_id, position, microseconds(latest_at))
    said = (
        taken.snapshot_id,
        taken.format,
        taken.transaction_id,
        taken.position,
        taken.latest_at_us,
    )
    if row != said:
        raise TamperedSnapshotError(snapshot_id, "its row differs")
    if sha256(digests).hexdigest() != taken.sha256 or not chunks_in(digests):
        raise TamperedSnapshotError(snapshot_id, "its digests differ")
    return Snapshot(snapshot_id, Place(transaction_id, position), latest_at, taken.states, digests)


async def states_in(
    reader: Connection, snapshot: Snapshot, kinds: Sequence[StateKind], buckets: Buckets
) -> list[AnyState]:
    """The states of some users in a snapshot, and of others that lie in the same chunks.

    Raises:
        TamperedSnapshotError: A chunk is not as it was taken, or is gone.
    """
    chunks = snapshot.chunks
    first, last = chunk_of(buckets.first, chunks), chunk_of(buckets.beyond - 1, chunks)
    cursor = await reader.execute(
        _CHUNKS, (snapshot.snapshot_id, [str(kind) for kind in kinds], first, last), binary=True
    )
    packed = {(kind, chunk): states for kind, chunk, states in await cursor.fetchall()}
    states: list[AnyState] = []
    for kind in kinds:
        for chunk in range(first, last + 1):
            states += _checked(snapshot, kind, chunk, packed.get((str(kind), chunk)))
            await asyncio.sleep(0)  # ten milliseconds each: others want to do something, too
    return states


async def altered_snapshots(reader: Connection) -> list[str]:
    """What is wrong with any snapshot of this build's format; nothing if all is well."""
    cursor = await reader.execute("SELECT snapshot_id FROM snapshots ORDER BY taken_at")
    found = []
    for (snapshot_id,) in await cursor.fetchall():
        try:
            snapshot = await _checked_snapshot(reader, str(snapshot_id), None, None)
            if snapshot is not None:
                for part in parts_of(snapshot.states, snapshot.chunks):
                    await states_in(reader, snapshot, tuple(StateKind), part)
        except TamperedSnapshotError as error:
            found.append(str(error))
    return found


def _checked(
    snapshot: Snapshot, kind: StateKind, chunk: int, packed: bytes | None
) -> list[AnyState]:
    name = f"chunk {chunk} of its {kind} states"
    if packed is None:
        raise TamperedSnapshotError(snapshot.snapshot_id, f"{name} is gone")
    at = digest_index(kind, chunk, snapshot.chunks) * DIGEST_BYTES
    if digest(packed) != snapshot.digests[at : at + DIGEST_BYTES]:
        raise TamperedSnapshotError(snapshot.snapshot_id, f"{name} differs")
    try:
        return unpack(kind, packed)
    except UnreadableChunkError as error:
        raise TamperedSnapshotError(snapshot.snapshot_id, str(error)) from error


def _announced(snapshot_id: str, event: Sequence[Any]) -> SnapshotTaken:
    """The event that announced a snapshot; Any: its columns, null where there is none."""
    type_, schema_version, data = event
    try:
        taken = None if type_ is None else decode_event(type_, schema_version, data)
    except (UnknownEventError, MalformedEventError) as error:
        raise TamperedSnapshotError(snapshot_id, "its event cannot be read") from error
    if not isinstance(taken, SnapshotTaken):
        raise TamperedSnapshotError(snapshot_id, "the log has no event of it")
    return taken
