"""The sequencer: grows the Merkle tree by the log's new events, and signs it.

Any number may run. One at a time has the turn; that only saves work. What keeps the tree one chain
is that each step is written only on top of the place that it was computed from, and that nothing
is signed on top of a tree that is not the one signed before.
"""

import asyncio
import logging
from collections.abc import Sequence

from audit.checkpoints import open_checkpoint, signed_checkpoint
from audit.merkle import leaf_hash
from audit.publication import Publication
from audit.signed_notes import NoteError, Signer
from audit.tiles import GrowingTiles, edge_tiles
from audit.tree_ports import SequencerGauge, Turn, TurnTaking
from domain.ports import StoreUnavailableError
from domain.transparency import (
    BUNDLE_WIDTH,
    BundleSpan,
    Growth,
    LogEntry,
    LogPlace,
    TreeDamagedError,
    TreeHead,
)

BATCH = 8192
"""Events a step at most: what is hashed at once, and written in one short transaction."""

_HEAD_EVERY_S = 1.0
_POLLS_S = (0.02, 0.05, 0.1, 0.2)
"""Pauses when there is nothing new: what an event may wait for, against a query's cost each."""
_RESTS_S = (0.2, 0.5, 1.0, 2.0, 5.0)
_log = logging.getLogger(__name__)


class Sequencer:
    """Sequences until cancelled."""

    def __init__(
        self,
        turns: TurnTaking,
        signer: Signer,
        publication: Publication,
        gauge: SequencerGauge,
        batch: int = BATCH,
    ) -> None:
        """Prepare; nothing is read before ``run``.

        Args:
            turns: Where the log is read and the tree is kept.
            signer: Of the log's key.
            publication: Told of each new tree.
            gauge: Told what happens.
            batch: Events a step at most.
        """
        self._turns = turns
        self._signer = signer
        self._publication = publication
        self._gauge = gauge
        self._batch = batch
        self._incomplete = False

    async def run(self) -> None:
        """Sequence until cancelled; a step that is under way then is written or comes again.

        A database that is away is waited for.

        Raises:
            TreeDamagedError: The stored tree is not the one that was signed or published.
        """
        failures = 0
        while True:
            try:
                self._gauge.has_turn(has=False)
                async with self._turns.turn() as turn:
                    self._gauge.has_turn(has=True)
                    failures = 0
                    await self._sequence(turn)
                # Another one went on meanwhile, so this one's turn was lost without a word.
            except StoreUnavailableError as error:
                _log.warning("the sequencer waits, and will go on where it stopped: %s", error)
            await asyncio.sleep(_RESTS_S[min(failures, len(_RESTS_S) - 1)])
            failures += 1

    async def _sequence(self, turn: Turn) -> None:
        """Take steps until another sequencer turns out to have taken one."""
        place, tree = await self._taken_up(turn)
        loop = asyncio.get_running_loop()
        polls = 0
        while True:
            entries = await turn.next_entries(place, self._batch)
            if not entries:
                await asyncio.sleep(_POLLS_S[min(polls, len(_POLLS_S) - 1)])
                polls += 1
                continue
            polls = 0
            begun = loop.time()
            growth = self._grown(tree, place, entries)
            if not await turn.grow(growth):
                return
            place = growth.place
            self._gauge.grew(growth.head.size, len(entries), entries[-1].occurred_at / 1_000_000)
            await self._publish(turn, growth)
            if len(entries) < self._batch:
                # Few heads while much happens; one at once where little does.
                await asyncio.sleep(max(0.0, begun + _HEAD_EVERY_S - loop.time()))

    async def _taken_up(self, turn: Turn) -> tuple[LogPlace, GrowingTiles]:
        published = await self._publication.published()
        standing = await turn.standing()
        head = standing.head
        size = 0 if head is None else head.size
        try:
            tree = GrowingTiles(size, await turn.tiles(edge_tiles(size)))
        except LookupError as error:
            msg = f"the stored tree is damaged: {error}"
            raise TreeDamagedError(msg) from error
        if head is not None:
            self._check(head, tree)
        await self._publication.check(published, head, turn)
        if head is not None:
            await self._catch_up(turn, head)
        return standing.place, tree

    async def _publish(self, turn: Turn, growth: Growth) -> None:
        if self._incomplete:
            await self._catch_up(turn, growth.head)
            return
        try:
            await self._publication.publish(growth.head, growth.tiles)
        except OSError as error:
            self._note_unpublished(error)

    async def _catch_up(self, turn: Turn, head: TreeHead) -> None:
        try:
            await self._publication.catch_up(head, turn)
        except OSError as error:
            self._note_unpublished(error)
        else:
            self._incomplete = False

    def _note_unpublished(self, error: OSError) -> None:
        """The tree in the database grows all the same; the files follow when they can."""
        _log.warning("the tree could not be published as files: %s", error)
        self._incomplete = True

    def _check(self, head: TreeHead, tree: GrowingTiles) -> None:
        try:
            signed = open_checkpoint(head.note, self._signer.verifier)
        except NoteError as error:
            msg = f"the newest stored head is not signed with our key: {error}"
            raise TreeDamagedError(msg) from error
        if (signed.size, signed.root) != (head.size, head.root) or head.root != tree.root():
            msg = f"the stored tree of {head.size} events is not the one that was signed"
            raise TreeDamagedError(msg)

    def _grown(self, tree: GrowingTiles, place: LogPlace, entries: Sequence[LogEntry]) -> Growth:
        first = tree.size
        tree.extend([leaf_hash(entry.leaf) for entry in entries])
        root = tree.root()
        note = signed_checkpoint(self._signer, tree.size, root)
        return Growth(
            before=place,
            place=entries[-1].place,
            head=TreeHead(tree.size, root, note),
            tiles=tree.take_changed(),
            bundles=bundles_of(first, entries),
        )


def bundles_of(first: int, entries: Sequence[LogEntry]) -> list[BundleSpan]:
    """Which bundles events are in.

    Args:
        first: Leaf of the first of them.
        entries: The events, one leaf after the other.
    """
    spans = []
    start = 0
    while start < len(entries):
        bundle, within = divmod(first + start, BUNDLE_WIDTH)
        held = entries[start : start + BUNDLE_WIDTH - within]
        times = [entry.occurred_at for entry in held]
        spans.append(BundleSpan(bundle, held[0].place, min(times), max(times)))
        start += len(held)
    return spans
