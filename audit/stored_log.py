"""A stored log as whoever verifies it reads it: in its order, with what is stored of its tree."""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from audit.archived_rows import ArchivedPart
from audit.head_claims import StoredHeads
from audit.leaf_alignment import Found
from audit.merkle import HASH_BYTES, leaf_hash
from audit.tree_ports import TileReader
from domain.transparency import BUNDLE_WIDTH, BundleSpan, LogEntry, LogPlace, TileId

_PAGE = 8192
BUNDLES_AT_ONCE = 256
"""How many bundles' tiles are read at a time."""


class StoredLog(TileReader, StoredHeads, ArchivedPart, Protocol):
    """The log and its tree in one snapshot of the database."""

    async def entries_after(self, place: LogPlace, limit: int) -> Sequence[LogEntry]:
        """Events behind a place, in the log's order."""
        ...

    async def bundles(self, first: int, count: int) -> Mapping[int, BundleSpan]:
        """Those bundles that there are, by number."""
        ...

    async def sequenced(self) -> LogPlace:
        """Where the sequencer says that the tree ends."""
        ...

    async def archived(self) -> tuple[int, LogPlace]:
        """The first leaf that is not in an archive, and the place of the one before it."""
        ...

    async def kept(self) -> int:
        """How many archived events were to stay: those of streams that are always read whole."""
        ...

    async def outside(self, ends: Collection[TileId], bundles: int) -> Sequence[str]:
        """Rows of the tree that there should not be, in words.

        Args:
            ends: Of each level of the tree, the first tile that it does not have.
            bundles: How many entry bundles it has.
        """
        ...

    async def beyond(self, place: LogPlace) -> tuple[int, datetime | None]:
        """How many events are behind a place, and when the oldest of them happened."""
        ...


class StoredEvents:
    """Reads a stored log in its order, some thousand events and some hundred bundles at a time."""

    def __init__(self, log: StoredLog) -> None:
        """Begin before the first event."""
        self._log = log
        self._buffer: deque[Found] = deque()
        self._read_to: LogPlace = (0, 0)
        self._tiles: Mapping[TileId, bytes] = {}
        self._spans: Mapping[int, BundleSpan] = {}
        self._from = -1
        self.place: LogPlace = (0, 0)
        """Of the event that was taken last."""
        self.in_step = True
        """Whether events were as many as there are leaves so far."""

    def start(self, behind: LogPlace) -> None:
        """Begin behind a place."""
        self._read_to = behind

    async def next(self, count: int) -> list[Found]:
        """The next events, fewer at the log's end."""
        while len(self._buffer) < count and await self._read():
            pass
        taken = [self._buffer.popleft() for _ in range(min(count, len(self._buffer)))]
        if taken:
            self.place = taken[-1].entry.place
        return taken

    async def until(self, taken: Sequence[Found], last: LogPlace) -> list[Found]:
        """Of events that were taken, and those that follow, those up to a place."""
        self.in_step = False
        rows = [each for each in taken if each.entry.place <= last]
        self._buffer.extendleft(reversed(taken[len(rows) :]))
        while self._buffer or await self._read():
            if self._buffer[0].entry.place > last:
                break
            rows.append(self._buffer.popleft())
        return rows

    async def _read(self) -> bool:
        entries = await self._log.entries_after(self._read_to, _PAGE)
        if entries:
            self._read_to = entries[-1].place
            self._buffer.extend(Found(leaf_hash(each.leaf), each) for each in entries)
        return bool(entries)

    async def last_of(self, bundle: int, is_last: bool) -> LogPlace | None:
        """A place that a bundle's events do not go beyond, as far as that is known."""
        if is_last:
            return await self._log.sequenced()
        following = await self.span(bundle + 1)
        return None if following is None else (following.first[0], following.first[1] - 1)

    async def tile(self, bundle: int) -> bytes:
        """The stored hashes of a bundle's leaves."""
        await self._look_ahead(bundle)
        return self._tiles.get(TileId(0, bundle), b"")

    async def span(self, bundle: int) -> BundleSpan | None:
        """What is stored of where a bundle's events are."""
        if bundle in self._spans:
            return self._spans[bundle]
        return (await self._log.bundles(bundle, 1)).get(bundle)

    async def parent_of(self, bundle: int) -> bytes | None:
        """The stored hash over a bundle's leaves; None where there is none."""
        tile, within = divmod(bundle, BUNDLE_WIDTH)
        held = await self._log.tiles([TileId(1, tile)])
        hashed = held.get(TileId(1, tile), b"")[within * HASH_BYTES : (within + 1) * HASH_BYTES]
        return hashed or None

    async def _look_ahead(self, bundle: int) -> None:
        page = bundle // BUNDLES_AT_ONCE * BUNDLES_AT_ONCE
        if page != self._from:
            numbers = range(page, page + BUNDLES_AT_ONCE)
            self._tiles = await self._log.tiles([TileId(0, number) for number in numbers])
            self._spans = await self._log.bundles(page, BUNDLES_AT_ONCE)
            self._from = page
