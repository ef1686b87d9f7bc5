"""Verifying a stored log against its tree, its signed heads, and heads that others hold.

The tree is grown anew from the events, bundle by bundle, and compared with what is stored: hashes
of leaves, tiles above them, the root at the size of every head. Nothing that lies in the database
is believed but for what a signature covers.
"""

import copy
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from audit.archived_rows import ArchivedRows
from audit.head_claims import Claim, HeadClaims, SavedHead
from audit.leaf_alignment import Fault, Found, LeafFault, align
from audit.merkle import HASH_BYTES, root_of
from audit.signed_notes import Verifier
from audit.stored_log import BUNDLES_AT_ONCE, StoredEvents, StoredLog
from audit.tiles import GrowingTiles, edge_tiles, split_hashes, width_at
from domain.json_reading import UNREADABLE
from domain.transparency import BUNDLE_WIDTH, BundleSpan, LogEntry, TileId

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
        self._events = StoredEvents(log)
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
            if (bundle + 1) % BUNDLES_AT_ONCE == 0:
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
    except UNREADABLE:
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
