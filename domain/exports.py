"""What may be exported of the log, and as what."""

from datetime import datetime
from enum import StrEnum

import msgspec

from domain.events.canonical import EventFields, microseconds
from domain.ids import UserId


class ExportFormat(StrEnum):
    """How an export is written."""

    JSONL = "jsonl"
    """A JSON text a line, with proofs."""
    PARQUET = "parquet"
    """A table, with proofs in its metadata."""
    OCSF = "ocsf"
    """A line an event of the Open Cybersecurity Schema Framework, for a SIEM; without proofs."""


class LeafSpan(msgspec.Struct, frozen=True):
    """Leaves of the tree that follow one another.

    Attributes:
        first: The first of them, from 0.
        end: The one behind the last; None for whatever there is.
    """

    first: int
    end: int | None = None

    def within(self, size: int) -> range:
        """Those of them that a tree of ``size`` leaves has."""
        return range(self.first, size if self.end is None else min(self.end, size))


class Selection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which events.

    Attributes:
        leaves: Those that are one of these leaves of the tree.
        since: Those that happened then or later.
        until: Those that happened before.
        user_id: Those about that user.
        types: Those of one of these types.
    """

    leaves: LeafSpan | None = None
    since: datetime | None = None
    until: datetime | None = None
    user_id: UserId | None = None
    types: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether it is every event, or every one of a span: which a tree can prove."""
        return self == Selection(leaves=self.leaves)

    def span(self, size: int) -> range:
        """The leaves that it is of, in a tree of ``size`` leaves."""
        return (self.leaves or LeafSpan(0)).within(size)

    def holds(self, leaf: int, event: EventFields) -> bool:
        """Whether an event is one of them.

        Args:
            leaf: Which leaf it is.
            event: The event.
        """
        if self.leaves is not None and leaf not in self.leaves.within(leaf + 1):
            return False
        if self.user_id is not None and event.subject_id != self.user_id:
            return False
        if self.types and event.type not in self.types:
            return False
        if self.since is not None and event.occurred_at < microseconds(self.since):
            return False
        return self.until is None or event.occurred_at < microseconds(self.until)


class OlderTree(msgspec.Struct, frozen=True):
    """A tree that an export is to be proved to go on from.

    Attributes:
        size: How many leaves it has.
        root: Its root, where it is known: whoever kept a head has it.
    """

    size: int
    root: bytes | None = None


class ExportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An export that somebody asks for.

    Attributes:
        format: As what.
        selection: Which events.
        reason: Why personal data is to be opened; None leaves it sealed.
        extends: Older trees that the export's head is to be proved to extend.
    """

    format: ExportFormat
    selection: Selection = Selection()
    reason: str | None = None
    extends: tuple[OlderTree, ...] = ()


class ExportedAs(msgspec.Struct, frozen=True, kw_only=True):
    """What an export came to.

    Attributes:
        events: How many events it holds.
        sha256: Of the file, in hexadecimal.
        head_size: How many leaves the tree has that its proofs lead to.
        read_since: The transaction from which on others may not be seen in it.
    """

    events: int
    sha256: str
    head_size: int
    read_since: int


class ExportTooLargeError(Exception):
    """There is more to export than was asked for at most."""


class NotExportedError(Exception):
    """An export was not made, and there is no file; the message says why."""
