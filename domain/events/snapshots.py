"""Events of the snapshots' stream."""

from typing import ClassVar

from domain.events.registry import Event, register


@register
class SnapshotTaken(Event, frozen=True, kw_only=True):
    """The states after every event up to a place were put aside, to go on from for time travel.

    It holds no state: what is put aside is checked against it whenever it is used.

    Attributes:
        snapshot_id: Names the snapshot.
        format: How its states are packed.
        transaction_id: Transaction of the last event in it.
        position: Position of that event.
        latest_at_us: The largest time of an event in it, in microseconds since 1970 UTC.
        states: How many states it holds.
        sha256: Over the SHA-256 digests of its chunks, in hexadecimal.
    """

    TYPE: ClassVar[str] = "SnapshotTaken"

    snapshot_id: str
    format: int
    transaction_id: int
    position: int
    latest_at_us: int
    states: int
    sha256: str
