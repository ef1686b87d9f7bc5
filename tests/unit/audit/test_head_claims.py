"""Signed trees come due in their order, however many heads there are, and wrong ones are named."""

from collections.abc import Sequence
from dataclasses import dataclass

from audit.checkpoints import Checkpoint, signed_checkpoint
from audit.head_claims import Claim, HeadClaims, SavedHead
from audit.signed_notes import Signer
from domain.transparency import TreeHead

SIGNER = Signer("tests.example/tlog", bytes(range(32)))
OTHER = Signer("tests.example/tlog", bytes(range(1, 33)))


@dataclass
class Heads:
    """``StoredHeads`` of a table that anybody may have written to."""

    rows: list[TreeHead]

    async def heads(self, above: int, up_to: int, limit: int) -> Sequence[TreeHead]:
        """See ``StoredHeads.heads``."""
        return [row for row in self.rows if above < row.size <= up_to][:limit]

    async def heads_below(self, size: int, limit: int) -> Sequence[TreeHead]:
        """See ``StoredHeads.heads_below``."""
        return [row for row in reversed(self.rows) if row.size < size][:limit]


def root(size: int) -> bytes:
    return size.to_bytes(32, "big")


def head(size: int, *, signed_as: int | None = None, signer: Signer = SIGNER) -> TreeHead:
    signed = size if signed_as is None else signed_as
    return TreeHead(size, root(signed), signed_checkpoint(signer, signed, root(signed)))


def stored(size: int) -> Claim:
    return Claim(size, root(size), "the stored head")


def unheard(_: str) -> None:
    """Nobody asks what is wrong."""


async def test_heads_come_due_page_by_page_and_once() -> None:
    found: list[str] = []
    claims = HeadClaims(
        Heads([head(size) for size in range(1, 40)]), SIGNER.verifier, [], found.append, page=7
    )

    newest = await claims.newest()
    first = await claims.due(20)
    rest = await claims.due(39)

    assert newest == 39
    assert first == [stored(size) for size in range(1, 21)]
    assert rest == [stored(size) for size in range(21, 40)]
    assert found == []


async def test_saved_heads_come_due_among_the_stored_ones() -> None:
    saved = SavedHead("mine", Checkpoint(SIGNER.verifier.name, 5, root(5)))
    claims = HeadClaims(Heads([head(3), head(9)]), SIGNER.verifier, [saved], unheard)

    await claims.newest()

    assert await claims.due(9) == [stored(3), Claim(5, root(5), "mine"), stored(9)]


async def test_of_no_heads_nothing_comes_due() -> None:
    claims = HeadClaims(Heads([]), SIGNER.verifier, [], unheard)

    assert await claims.newest() == 0
    assert await claims.due(0) == []


async def test_what_another_key_signed_is_found_once_and_is_not_the_newest() -> None:
    found: list[str] = []
    forged = [head(size, signer=OTHER) for size in range(50, 90)]
    claims = HeadClaims(Heads([head(40), *forged]), SIGNER.verifier, [], found.append)

    newest = await claims.newest()
    due = await claims.due(newest)

    assert newest == 40
    assert due == [stored(40)]
    assert len(found) == 40
    assert all("is not signed by the log" in each for each in found)


async def test_a_head_that_is_stored_under_another_size_is_found() -> None:
    found: list[str] = []
    rows = Heads([head(4), head(10, signed_as=6), head(20), head(30, signed_as=25)])
    claims = HeadClaims(rows, SIGNER.verifier, [], found.append)

    newest = await claims.newest()
    due = await claims.due(20)

    assert newest == 20
    assert due == [stored(4), stored(6), stored(20)]
    assert found == [
        "the stored head of 30 events does not say what was signed",
        "the stored head of 10 events does not say what was signed",
    ]
