"""Whether the tree of an export and that of a head that somebody kept are one log.

The head may be older than the export's, of its size, or newer. Where one of the two trees has
another root than the head says at that size, it is disproved; where nothing at hand tells, it is
neither proved nor disproved, which is told apart.
"""

from collections.abc import Callable, Sequence

from audit.checkpoints import Checkpoint
from audit.exports import BundleProof, ExportedLeaf, ExportHeader, older_root
from audit.merkle import InconsistentTreesError, ProofError, verify_consistency


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
        self._unfit: str | None = None

    @property
    def unproved(self) -> str | None:
        """What is lacking to tell; None where it is proved or disproved."""
        if self._settled or self._head is None:
            return None
        if self._unfit is not None:
            return self._unfit
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
            self._by_consistency(head, ())
        for each in header.extends or ():
            if each.size == self._kept.size and not self._by_consistency(head, each.hashes):
                self._find(
                    f"the export's proof does not join it to the saved head of {each.size} events"
                )
        if self._proof is not None and not self._by_consistency(head, self._proof):
            # It may be a proof of something else: that tells nothing of the two.
            self._unfit = (
                f"the proof that was given does not join the saved head of {self._kept.size} events"
                f" to the export's of {head.size}: it is one between other trees, or was altered"
            )

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

    def _by_consistency(self, head: Checkpoint, hashes: Sequence[bytes]) -> bool:
        """Whether a proof tells, either way."""
        older, newer = sorted((self._kept, head), key=lambda each: each.size)
        try:
            verify_consistency(older.size, older.root, newer.size, newer.root, hashes)
        except InconsistentTreesError as error:
            self._find(f"the saved head and the export's are not of one log: {error}")
        except ProofError:
            return False
        self._settled = True
        return True
