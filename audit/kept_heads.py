"""Whether the tree of an export and that of a head that somebody kept are one log.

The head may be older than the export's, of its size, or newer. Where one of the two trees has
another root than the head says at that size, it is disproved; where nothing at hand tells, it is
neither proved nor disproved, which is told apart.
"""

from collections.abc import Callable, Sequence

from audit.checkpoints import Checkpoint
from audit.exports import BundleProof, ExportedLeaf, ExportHeader, older_root
from audit.merkle import ProofError, verify_consistency


class KeptHead:
    """A head that somebody kept, beside the export that is read."""

    def __init__(
        self, kept: Checkpoint, proof: Sequence[bytes] | None, find: Callable[[str], None]
    ) -> None:
        """Prepare.

        Args:
            kept: What the head says, its signature checked.
            proof: The consistency proof between the two, where somebody has one.
            find: Told where they are not of one log.
        """
        self._kept = kept
        self._proof = proof
        self._find = find
        self._head: Checkpoint | None = None
        self._settled = False

    @property
    def unproved(self) -> str | None:
        """What is lacking to tell; None where it is proved or disproved."""
        if self._settled or self._head is None:
            return None
        kept, size = self._kept.size, self._head.size
        if kept > size:
            return (
                f"the saved head of {kept} events is newer than the export's of {size}, which no"
                f" export can know of: have `prove-consistency {size} {kept}` make the proof, and"
                " give it with --consistency"
            )
        return (
            f"nothing in the export proves that its tree of {size} events begins with that of the"
            f" saved head of {kept}: export with --extends HEAD, or have `prove-consistency HEAD"
            f" {size}` make the proof, and give it with --consistency"
        )

    def by_header(self, header: ExportHeader, head: Checkpoint) -> None:
        """Compare it with an export's head, and with what the header proves."""
        self._head = head
        if self._kept.size == head.size:
            self._settled = True
            if self._kept.root != head.root:
                self._find(f"the saved head of {head.size} events is of another tree")
            return
        if self._kept.size == 0:
            self._by_consistency((), "that a log begins with nothing")
        for each in header.extends or ():
            if each.size == self._kept.size:
                self._by_consistency(each.hashes, "the export's proof")
        if self._proof is not None:
            self._by_consistency(self._proof, "the proof that was given")

    def by_bundle(self, proof: BundleProof, leaves: Sequence[ExportedLeaf]) -> None:
        """Compare it with what a bundle tells, in which nothing is wrong."""
        if self._settled or self._head is None or self._kept.size > self._head.size:
            return
        root = older_root(proof, self._head.size, leaves, self._kept.size)
        if root is None:
            return
        self._settled = True
        if root != self._kept.root:
            self._find(
                f"the saved head of {self._kept.size} events was signed over another tree than the"
                f" one that the export's head of {self._head.size} begins with"
            )

    def _by_consistency(self, hashes: Sequence[bytes], whose: str) -> None:
        if self._head is None:
            return
        older, newer = sorted((self._kept, self._head), key=lambda each: each.size)
        self._settled = True
        try:
            verify_consistency(older.size, older.root, newer.size, newer.root, hashes)
        except ProofError as error:
            self._find(f"{whose} does not join the saved head to the export's: {error}")
