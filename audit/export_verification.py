"""Checking an export without a database and without a secret: against a signed head alone."""

from collections.abc import Iterable, Sequence

import msgspec

from audit.checkpoints import Checkpoint, open_checkpoint
from audit.export_lines import ExportPart, MalformedExportError
from audit.exports import (
    FORMAT,
    BundleProof,
    ExportedLeaf,
    ExportFooter,
    ExportHeader,
    bounds_of,
    check_bundle,
)
from audit.kept_heads import KeptHead
from audit.signed_notes import NoteError, Verifier
from domain.events.canonical import EventFields
from domain.exports import Selection
from domain.json_reading import UNREADABLE

MAX_FINDINGS = 1_000
_read_fields = msgspec.json.Decoder(EventFields).decode


class CheckedExport(msgspec.Struct):
    """What checking an export came to.

    Attributes:
        head: What its proofs lead to; None where it has no head that can be read.
        events: How many events it has.
        first: The first leaf of them; None where there is none.
        end: The one behind the last.
        selection: What it says that was chosen.
        archived: The leaves before that one could not be chosen, it says.
        opened: How many events have what is personal in them beside them.
        findings: What is wrong; nothing if all is well.
        unproved: Why it could not be told whether a saved head is of the same log.
    """

    head: Checkpoint | None = None
    events: int = 0
    first: int | None = None
    end: int = 0
    selection: Selection = Selection()
    archived: int = 0
    opened: int = 0
    unproved: str | None = None
    findings: list[str] = msgspec.field(default_factory=list)

    @property
    def is_contiguous(self) -> bool:
        """Whether no leaf between its first and its last is left out."""
        return self.first is not None and self.end - self.first == self.events


def check_export(
    parts: Iterable[ExportPart],
    verifier: Verifier,
    saved: Checkpoint | None,
    consistency: Sequence[bytes] | None = None,
) -> CheckedExport:
    """Check an export.

    Args:
        parts: As they are read from the file.
        verifier: The log's public key.
        saved: A head that somebody kept, its signature checked; of whatever size.
        consistency: The proof between that head and the export's, where somebody has one.
    """
    checked = CheckedExport()
    try:
        _Checking(checked, verifier, saved, consistency).run(parts)
    except MalformedExportError as error:
        checked.findings.append(str(error))
    except NoteError as error:
        checked.findings.append(f"the export's head: {error}")
    return checked


class _Checking:
    def __init__(
        self,
        checked: CheckedExport,
        verifier: Verifier,
        saved: Checkpoint | None,
        consistency: Sequence[bytes] | None,
    ) -> None:
        self._checked = checked
        self._verifier = verifier
        self._kept = None if saved is None else KeptHead(saved, consistency, self._find)
        self._proof: BundleProof | None = None
        self._leaves: list[ExportedLeaf] = []
        self._bundles = 0
        self._wanted = range(0)
        self._due: int | None = None

    def run(self, parts: Iterable[ExportPart]) -> None:
        coming = iter(parts)
        header = next(coming, None)
        if not isinstance(header, ExportHeader):
            msg = "the file does not begin as an export does"
            raise MalformedExportError(msg)
        head = self._begin(header)
        if header.selection.is_whole:
            leaves = header.selection.span(head.size)
            self._wanted = range(max(leaves.start, header.first_leaf), leaves.stop)
            self._due = self._wanted.start
        ended = False
        for part in coming:
            if ended or isinstance(part, ExportHeader):
                msg = "something follows the export's end, or it begins twice"
                raise MalformedExportError(msg)
            match part:
                case BundleProof():
                    self._close()
                    self._open(part)
                case ExportedLeaf():
                    self._leaves.append(part)
                    self._checked.events += 1
                    self._checked.opened += part.is_opened
                case ExportFooter():
                    self._close()
                    ended = True
                    self._check_end(part)
        if not ended:
            self._close()
            self._find("the export is cut off: it has no end")
        elif self._due is not None:
            self._find_missing(self._due, head.size)
        if self._kept is not None:
            self._checked.unproved = self._kept.unproved

    def _begin(self, header: ExportHeader) -> Checkpoint:
        chosen = header.selection
        if any(at is not None and at.tzinfo is None for at in (chosen.since, chosen.until)):
            msg = "the export says between which instants, and not in which zone"
            raise MalformedExportError(msg)
        if header.format != FORMAT:
            msg = f"the file is not of the format {FORMAT}"
            raise MalformedExportError(msg)
        head = open_checkpoint(header.checkpoint, self._verifier)
        if not 0 <= header.first_leaf <= head.size:
            msg = f"the export says that {header.first_leaf} leaves of {head.size} were archived"
            raise MalformedExportError(msg)
        self._checked.head = head
        self._checked.archived = header.first_leaf
        self._checked.selection = chosen
        if self._kept is not None:
            self._kept.by_header(header, head)
        return head

    def _open(self, proof: BundleProof) -> None:
        if self._proof is not None and proof.bundle <= self._proof.bundle:
            self._find(f"bundle {proof.bundle} follows bundle {self._proof.bundle}")
        self._proof = proof
        self._bundles += 1

    def _close(self) -> None:
        """Check the bundle whose events have been read."""
        leaves, self._leaves = self._leaves, []
        head = self._checked.head
        if head is None:
            return
        if self._proof is None:
            if leaves:
                self._find(f"{leaves[0].where} has an event that no proof is for")
            return
        if leaves:
            if self._checked.first is None:
                self._checked.first = leaves[0].leaf
            if leaves[0].leaf < self._checked.archived:
                self._find(f"{leaves[0].where} has a leaf that the file says was archived")
            self._checked.end = leaves[-1].leaf + 1
        fault = check_bundle(self._proof, head.size, head.root, leaves)
        if fault is not None:
            self._find(fault)
        else:
            self._check_choice(leaves)
            if self._kept is not None:
                self._kept.by_bundle(self._proof, leaves)
        if self._due is not None:
            self._due = self._whole(self._proof, self._due, head.size)

    def _check_choice(self, leaves: Sequence[ExportedLeaf]) -> None:
        """Find events that are genuine and none of those that were chosen."""
        chosen = self._checked.selection
        if chosen == Selection():
            return
        for each in leaves:
            try:
                event = _read_fields(each.event)
            except UNREADABLE:
                self._find(f"{each.where} is no event that this version can read")
                continue
            if not chosen.holds(each.leaf, event):
                self._find(
                    f"{each.where} has event {event.position} ({event.type}), which the export's"
                    " selection excludes"
                )

    def _whole(self, proof: BundleProof, due: int, size: int) -> int:
        """Find what a bundle, and those before it, lack of everything; returns what is due next."""
        first, end = bounds_of(proof.bundle, size)
        self._find_missing(due, first)
        for gap in proof.gaps:
            self._find_missing(gap.first, gap.end)
        return max(due, end)

    def _check_end(self, footer: ExportFooter) -> None:
        if (footer.events, footer.bundles) != (self._checked.events, self._bundles):
            self._find(
                f"the export says that it has {footer.events} events in {footer.bundles} bundles,"
                f" and has {self._checked.events} in {self._bundles}"
            )

    def _find_missing(self, first: int, end: int) -> None:
        """Find leaves that are not there, as far as they were to be."""
        first, end = max(first, self._wanted.start), min(end, self._wanted.stop)
        if first < end:
            whole = "everything" if self._checked.selection == Selection() else "all of a span"
            self._find(f"leaves {first} to {end - 1} are missing from an export of {whole}")

    def _find(self, what: str) -> None:
        if len(self._checked.findings) < MAX_FINDINGS:
            self._checked.findings.append(what)
