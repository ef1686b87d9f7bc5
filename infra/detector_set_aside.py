"""Events that the detector went on without: kept where people see them."""

import logging
from collections.abc import Sequence
from datetime import datetime

import msgspec

from domain.detection_work import Stage
from domain.events.registry import MalformedEventError
from domain.ids import EventId, Stream
from infra.postgres import Connection
from infra.tail import Place

_log = logging.getLogger(__name__)

_SET_ASIDE = """
INSERT INTO detector_set_aside (event_id, stage, position, stream, type, reason, set_aside_at)
VALUES (%s, %s, %s, %s, %s, %s, clock_timestamp()) ON CONFLICT DO NOTHING
"""
_READ = """
SELECT set_aside_at, stage, position, event_id, stream, type, reason
  FROM detector_set_aside ORDER BY set_aside_at DESC, position DESC
"""


class Unread(msgspec.Struct, frozen=True):
    """An event that cannot be dealt with, as far as its row tells of it.

    Attributes:
        place: Its place in the log.
        event_id: Its id.
        stream: Its stream.
        type: Its type.
        reason: Why not; nothing personal.
    """

    place: Place
    event_id: EventId
    stream: Stream
    type: str
    reason: str


def unreadable(
    place: Place, event_id: EventId, stream: Stream, type_: str, error: MalformedEventError
) -> Unread:
    """An event that no build can read; the log of the process says what is wrong with it."""
    _log.error("event %s cannot be read: %s", event_id, error)
    return Unread(place, event_id, stream, type_, f"it cannot be read: {type(error).__name__}")


class SetAside(msgspec.Struct, frozen=True):
    """An event that was set aside.

    Attributes:
        at: When that was.
        stage: Which stage could not deal with it.
        position: Its position in the log.
        event_id: Its id.
        stream: Its stream.
        type: Its type.
        reason: Why not.
    """

    at: datetime
    stage: Stage
    position: int
    event_id: EventId
    stream: Stream
    type: str
    reason: str


async def set_aside(connection: Connection, stage: Stage, unread: Sequence[Unread]) -> None:
    """Keep events, each once for a stage."""
    for each in unread:
        await connection.execute(
            _SET_ASIDE,
            (each.event_id, int(stage), each.place.position, each.stream, each.type, each.reason),
        )


async def read_set_aside(connection: Connection) -> list[SetAside]:
    """What was set aside, the latest first."""
    cursor = await connection.execute(_READ, binary=True)
    return [SetAside(at, Stage(stage), *rest) for at, stage, *rest in await cursor.fetchall()]
