"""Verifying a stored log against its tree, its signed heads, and heads that others hold.

The tree is grown anew from the events, bundle by bundle, and compared with what is stored: hashes
of leaves, tiles above them, the root at the size of every head. Nothing that lies in the database
is believed but for what a signature covers.
"""

import copy
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

import msgspec

from audit.archived_rows import ArchivedPart, ArchivedRows
from audit.head_claims import Claim, HeadClaims, SavedHead, StoredHeads
from audit.leaf_alignment import Fault, Found, LeafFault, align
from audit.merkle import HASH_BYTES, leaf_hash, root_of
from audit.signed_notes import Verifier
from audit.tiles import GrowingTiles, edge_tiles, split_hashes, width_at
from audit.tree_ports import TileReader
from domain.transparency import BUNDLE_WIDTH, BundleSpan, LogEntry, LogPlace, TileId

_PAGE = 8192
_BUNDLES_AT_ONCE = 256
_MOST_KEPT = 10_000
"""Leaf faults that are remembered: enough to tell what was moved, whatever was done."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it was signed.

    Attributes:
        what: In one line, with the event, leaf, tile or head that it is about.
        leaf: The first leaf that it concerns; None where it is about none.
    """

    what: str
    leaf: int | None = None

    def __str__(self) -> str:
        """The line."""
        return self.what


class Covered(NamedTuple):
    """What a verification has looked at.

    Attributes:
        leaves: Events under the newest signed head.
        archived: Of these, how many are in archives: only their hashes were looked at.
        beyond: Events that are newer than that head.
        unsigned_since: When the oldest of those happened; None where there are none.
    """

    leaves: int
    archived: int
    beyond: int
    unsigned_since: datetime | None


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


class LogVerification:
    """One pass over a stored log. ``findings`` fills as it goes."""

    def __init__(self, log: StoredLog, verifier: Verifier, saved: Collection[SavedHead]) -> None:
        """Prepare.

        Args:
            log: What to verify.
            verifier: The log's public key.
            saved: Heads that today's log has to extend.
        """
        self._log = log
        self._saved = saved
        self._claims = HeadClaims(log, verifier, saved, self._find)
        self._events = _Events(log)
        self._tree = GrowingTiles()
        self._archived: ArchivedRows | None = None
        self._faults: list[LeafFault] = []
        self.findings: list[Finding] = []

    async def run(self, progress: Callable[[int, int], None]) -> Covered:
        """Verify the log from its beginning to the newest head.

        Args:
            progress: Told how many events have been looked at, and of how many.

        Returns:
            What was looked at.
        """
        size = await self._claims.newest()
        for each in self._saved:
            if each.checkpoint.size > size:
                self._find(
                    f"{each.whose} is of {each.checkpoint.size} events and the database has signed"
                    f" heads up to {size}: it was set back, or its newest heads were removed"
                )
        archived, behind = await self._log.archived()
        if archived:
            self._archived = ArchivedRows(self._log, behind)
            self._events.start(behind)
        while self._tree.size < size:
            bundle = self._tree.size // BUNDLE_WIDTH
            truth = await self._leaves(bundle, size, archived)
            if not truth:
                self._find(f"the tree ends at leaf {self._tree.size}, its head says {size}")
                break
            start = self._tree.size
            for claim in await self._claims.due(start + len(truth)):
                self._check_root(claim, start, truth)
            self._tree.extend(truth[self._tree.size - start :])
            if (bundle + 1) % _BUNDLES_AT_ONCE == 0:
                await self._check_tiles()
                progress(self._tree.size, size)
        await self._check_tiles(whole=True)
        if self._archived is not None:
            await self._check_kept(self._archived)
        beyond, unsigned_since = await self._check_end(size)
        self._tell_faults()
        progress(size, size)
        return Covered(size, min(archived, size), beyond, unsigned_since)

    def _check_root(self, claim: Claim, start: int, truth: Sequence[bytes]) -> None:
        """Grow the tree to the size of a claim, and compare."""
        if claim.size < self._tree.size:
            return  # it was found to be stored under another size
        self._tree.extend(truth[self._tree.size - start : claim.size - start])
        if claim.root != self._tree.root():
            self._find(
                f"{claim.whose} of {claim.size} events was signed over another tree than the one"
                " that is stored"
            )

    # ------------------------------------------------------------------ leaves

    async def _leaves(self, bundle: int, size: int, archived: int) -> Sequence[bytes]:
        """The hashes of a bundle's leaves as they were signed, as far as that can be told."""
        first = bundle * BUNDLE_WIDTH
        width = min(BUNDLE_WIDTH, size - first)
        tile = await self._events.tile(bundle)
        if len(tile) > width * HASH_BYTES:
            self._note_width(bundle, len(tile) // HASH_BYTES, width)
        stored = tile[: width * HASH_BYTES]
        signed = split_hashes(stored[: len(stored) // HASH_BYTES * HASH_BYTES])
        if self._archived is not None and first < archived:
            self._note_width(bundle, len(signed), width)
            await self._check_archived(self._archived, bundle, signed, archived)
            return signed
        found = await self._events.next(width)
        if b"".join(each.hashed for each in found) == stored:
            await self._check_span(bundle, found)
            return signed
        whole = await self._events.last_of(bundle, first + width == size)
        rows = found if whole is None else await self._events.until(found, whole)
        if len(signed) == width and await self._is_signed(bundle, signed):
            self._remember(align(first, signed, rows))
            return signed
        hashes = [each.hashed for each in rows]
        if len(hashes) == width and await self._is_signed(bundle, hashes):
            self._find(f"tile {bundle} of level 0 was altered: the events are as they were signed")
            return hashes
        self._note_width(bundle, len(signed), width)
        self._remember(align(first, signed, rows))
        return signed if len(signed) == width else hashes

    async def _is_signed(self, bundle: int, leaves: Sequence[bytes]) -> bool:
        """Whether leaves are those that the tree above, or the newest head, was made of."""
        if len(leaves) == BUNDLE_WIDTH:
            above = await self._events.parent_of(bundle)
            return above is None or above == root_of(leaves)
        tree = copy.deepcopy(self._tree)
        tree.extend(leaves)
        newest = await self._log.heads(tree.size - 1, tree.size, 1)
        return bool(newest) and newest[0].root == tree.root()

    def _note_width(self, bundle: int, held: int, width: int) -> None:
        if held != width:
            self._find(f"tile {bundle} of level 0 holds {held} hashes, and {width} are due")

    async def _check_archived(
        self, rows: ArchivedRows, bundle: int, signed: Sequence[bytes], archived: int
    ) -> None:
        first = bundle * BUNDLE_WIDTH
        end = None
        if first + BUNDLE_WIDTH < archived:
            following = await self._events.span(bundle + 1)
            if following is None:
                self._find(f"entry bundle {bundle + 1} is missing")
            else:
                end = following.first
        for row in await rows.strangers(signed, end):
            self._find(
                f"{_named(row)} was altered, moved or inserted: it is none of the archived leaves"
                f" from {first} on",
                first,
            )

    async def _check_kept(self, rows: ArchivedRows) -> None:
        kept = await self._log.kept()
        if rows.kept != kept:
            self._find(
                f"of the archived events {kept} were to stay (those of policies, keys and the"
                f" audit), and {rows.kept} are there"
            )

    async def _check_span(self, bundle: int, found: Sequence[Found]) -> None:
        times = [each.entry.occurred_at for each in found]
        span = BundleSpan(bundle, found[0].entry.place, min(times), max(times))
        if await self._events.span(bundle) != span:
            self._find(f"entry bundle {bundle} does not say where and when its events are")

    def _remember(self, faults: Sequence[LeafFault]) -> None:
        room = _MOST_KEPT - len(self._faults)
        self._faults.extend(faults[:room])

    def _tell_faults(self) -> None:
        """Say what was done to events; what is missing here and was added there was moved."""
        missing = {each.hashed: each for each in self._faults if each.fault is Fault.MISSING}
        added = {each.hashed: each for each in self._faults if each.fault is Fault.INSERTED}
        moved = missing.keys() & added.keys()
        for each in self._faults:
            if each.hashed not in moved:
                self._find(_told(each), each.leaf)
            elif each.fault is Fault.MISSING:
                to = added[each.hashed]
                self._find(
                    _told(LeafFault(Fault.MOVED, each.leaf, to.entry, each.hashed)), each.leaf
                )

    # ------------------------------------------------------------------ the rest of the tree

    async def _check_tiles(self, *, whole: bool = False) -> None:
        """Compare tiles above the leaves' with what the leaves make them, and will make longer."""
        made = {tile: held for tile, held in self._tree.take_changed().items() if tile.level}
        stored = await self._log.tiles(made)
        for tile, hashes in sorted(made.items()):
            held = stored.get(tile, b"")
            if (held if whole else held[: len(hashes)]) != hashes:
                self._find(f"tile {tile.number} of level {tile.level} was altered or is missing")

    async def _check_end(self, size: int) -> tuple[int, datetime | None]:
        """Look at what should be the end of the tree; returns what ``StoredLog.beyond`` does."""
        sequenced = await self._log.sequenced()
        if self._events.in_step and size and sequenced != self._events.place:
            self._find("the sequencer's checkpoint does not stand at the tree's last leaf")
        ends = [
            TileId(tile.level, tile.number + bool(width_at(*tile, size)))
            for tile in edge_tiles(size)
        ]
        for stray in await self._log.outside(ends, -(-size // BUNDLE_WIDTH)):
            self._find(f"{stray} lies beyond the signed tree")
        return await self._log.beyond(sequenced)

    def _find(self, what: str, leaf: int | None = None) -> None:
        self.findings.append(Finding(what, leaf))


class _Events:
    """Reads a stored log in its order, some thousand events and some hundred bundles at a time."""

    def __init__(self, log: StoredLog) -> None:
        self._log = log
        self._buffer: deque[Found] = deque()
        self._read_to: LogPlace = (0, 0)
        self._tiles: Mapping[TileId, bytes] = {}
        self._spans: Mapping[int, BundleSpan] = {}
        self._from = -1
        self.place: LogPlace = (0, 0)
        self.in_step = True

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
        page = bundle // _BUNDLES_AT_ONCE * _BUNDLES_AT_ONCE
        if page != self._from:
            numbers = range(page, page + _BUNDLES_AT_ONCE)
            self._tiles = await self._log.tiles([TileId(0, number) for number in numbers])
            self._spans = await self._log.bundles(page, _BUNDLES_AT_ONCE)
            self._from = page


class _Named(msgspec.Struct):
    """What of an event names it to people."""

    position: int
    stream: str
    version: int
    type: str


_read_name = msgspec.json.Decoder(_Named).decode


def _named(entry: LogEntry) -> str:
    try:
        event = _read_name(entry.leaf)
    except (msgspec.MsgspecError, RecursionError):  # the second: nested without end
        return f"event {entry.place[1]}"
    return f"event {event.position} ({event.stream} version {event.version}, {event.type})"


def _told(fault: LeafFault) -> str:
    if fault.entry is None:
        return f"leaf {fault.leaf} is missing: its event was deleted"
    name = _named(fault.entry)
    match fault.fault:
        case Fault.ALTERED:
            return f"{name} was altered: it is not what leaf {fault.leaf} was signed over"
        case Fault.INSERTED:
            return f"{name} was inserted before leaf {fault.leaf}: no leaf was signed over it"
        case Fault.MOVED | Fault.MISSING:
            return f"{name} was moved: it does not stand where leaf {fault.leaf} was signed"
