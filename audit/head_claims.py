"""Trees that somebody signed, as they come due while the log's tree is grown anew.

A log may have as many heads as events: they are read some thousand at a time.
"""

import heapq
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

from audit.checkpoints import Checkpoint, open_checkpoint
from audit.signed_notes import NoteError, Verifier
from domain.transparency import TreeHead

_PAGE = 8192
_FEW = 16
_LARGEST = 2**63 - 1


class SavedHead(NamedTuple):
    """A head that somebody kept, its signature checked.

    Attributes:
        whose: Where it was kept, for the finding.
        checkpoint: What it says.
    """

    whose: str
    checkpoint: Checkpoint


class Claim(NamedTuple):
    """A tree that somebody signed.

    Attributes:
        size: How many events it has.
        root: Its root.
        whose: Whose head says so, for the finding.
    """

    size: int
    root: bytes
    whose: str


class StoredHeads(Protocol):
    """The signed heads of one snapshot of the database."""

    async def heads(self, above: int, up_to: int, limit: int) -> Sequence[TreeHead]:
        """Heads of trees larger than a size, up to another, the smallest first."""
        ...

    async def heads_below(self, size: int, limit: int) -> Sequence[TreeHead]:
        """Heads of trees smaller than a size, the largest first."""
        ...


class HeadClaims:
    """What the stored heads claim, and those that others keep."""

    def __init__(
        self,
        stored: StoredHeads,
        verifier: Verifier,
        saved: Collection[SavedHead],
        find: Callable[[str], None],
        page: int = _PAGE,
    ) -> None:
        """Prepare.

        Args:
            stored: The stored heads.
            verifier: The log's public key.
            saved: Heads that others keep.
            find: Told of whatever is wrong with a head by itself.
            page: How many heads are read at a time.
        """
        self._stored = stored
        self._verifier = verifier
        self._waiting = [Claim(kept.size, kept.root, whose) for whose, kept in saved]
        heapq.heapify(self._waiting)
        self._find = find
        self._page = page
        self._read_to = -1
        self._newest = 0

    async def newest(self) -> int:
        """The size of the largest stored tree that the log signed; 0 where there is none."""
        below = _LARGEST
        while page := await self._stored.heads_below(below, _FEW):
            for head in page:
                claim = self._claim_of(head)
                if claim is not None and claim.size == head.size:
                    self._newest = claim.size
                    return claim.size
            below = page[-1].size
        return 0

    async def due(self, size: int) -> list[Claim]:
        """Those of trees up to a size that have not been due before, the smallest first.

        One that is stored under another size than was signed may come late.

        Args:
            size: At most ``newest``, which was asked before.
        """
        while self._read_to < size:
            page = await self._stored.heads(self._read_to, self._newest, self._page)
            self._read_to = page[-1].size if len(page) == self._page else self._newest
            for head in page:
                claim = self._claim_of(head)
                if claim is not None:
                    heapq.heappush(self._waiting, claim)
        found = []
        while self._waiting and self._waiting[0].size <= size:
            found.append(heapq.heappop(self._waiting))
        return found

    def _claim_of(self, head: TreeHead) -> Claim | None:
        try:
            signed = open_checkpoint(head.note, self._verifier)
        except NoteError as error:
            self._find(f"the stored head of {head.size} events is not signed by the log: {error}")
            return None
        if (signed.size, signed.root) != (head.size, head.root):
            self._find(f"the stored head of {head.size} events does not say what was signed")
        return Claim(signed.size, signed.root, "the stored head")
