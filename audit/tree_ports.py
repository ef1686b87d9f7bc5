"""What the audit needs to read the tree, to grow it and to publish it, as Protocols."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from domain.ids import EventId
from domain.transparency import Growth, LogEntry, LogPlace, Standing, TileId, TreeHead


class TileReader(Protocol):
    """Reads stored tiles."""

    async def tiles(self, wanted: Collection[TileId]) -> Mapping[TileId, bytes]:
        """Those that there are, as wide as they are now."""
        ...


class TreeReader(TileReader, Protocol):
    """Reads the stored tree and the log below it."""

    async def newest_head(self) -> TreeHead | None:
        """The newest signed tree; None where nothing was ever signed."""
        ...

    async def head_of(self, size: int) -> TreeHead | None:
        """The signed tree of that size, if there is one."""
        ...

    async def entries(self, first: int, count: int) -> Sequence[LogEntry]:
        """So many leaves from one on; fewer where the log or the tree ends."""
        ...

    async def archive_of(self, leaf: int) -> str | None:
        """The name of the file that a leaf's event went into; None where it did not."""
        ...

    async def leaf_at(self, position: int) -> int | None:
        """Which leaf the event at a position is; None where there is none in the tree."""
        ...

    async def last_by(self, instant: int) -> int | None:
        """The last leaf whose event had happened by an instant, in microseconds since 1970.

        None where there is none. The log's order is that of transactions: of events of the same
        blink, some that happened by then may have leaves behind one that did not.
        """
        ...

    async def position_of(self, event_id: EventId) -> int | None:
        """Where an event is in the log; None where it is not found."""
        ...


class Turn(TileReader, Protocol):
    """One sequencer's turn, as long as it lasts."""

    async def standing(self) -> Standing:
        """Where sequencing stands."""
        ...

    async def next_entries(self, after: LogPlace, limit: int) -> Sequence[LogEntry]:
        """The next events behind a place, in the log's order, none of them skippable."""
        ...

    async def grow(self, growth: Growth) -> bool:
        """Write a step, all of it or nothing; False where another sequencer went on meanwhile."""
        ...


class TurnTaking(Protocol):
    """Lets one sequencer at a time do the work."""

    def turn(self) -> AbstractAsyncContextManager[Turn]:
        """Wait until nobody else has the turn, and keep it for as long as the block lasts.

        Raises:
            StoreUnavailableError: The database cannot be reached.
        """
        ...


class Folder(Protocol):
    """Files that are served as they are. Paths are relative, with ``/``."""

    async def read(self, path: str) -> bytes | None:
        """A file's content; None where there is none."""
        ...

    async def missing(self, lengths: Mapping[str, int]) -> list[str]:
        """Those paths that do not hold a file of that length."""
        ...

    async def write(self, files: Mapping[str, bytes]) -> None:
        """Put files there, each at once in its place or not at all."""
        ...

    async def write_durably(self, path: str, content: bytes) -> None:
        """The same for one file, which then outlasts a power cut."""
        ...

    async def remove(self, folders: Sequence[str]) -> None:
        """Remove folders with all that is in them, where they exist."""
        ...


class SequencerGauge(Protocol):
    """Told what the sequencer does."""

    def has_turn(self, *, has: bool) -> None:
        """It has the turn, or stands by."""
        ...

    def grew(self, size: int, leaves: int, newest: float) -> None:
        """The tree grew.

        Args:
            size: Leaves that it has now.
            leaves: How many of them are new.
            newest: When the last of them happened, in seconds since 1970.
        """
        ...
