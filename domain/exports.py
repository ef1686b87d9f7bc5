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


class Selection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which events.

    Attributes:
        since: Those that happened then or later.
        until: Those that happened before.
        user_id: Those about that user.
        types: Those of one of these types.
    """

    since: datetime | None = None
    until: datetime | None = None
    user_id: UserId | None = None
    types: tuple[str, ...] = ()

    def holds(self, event: EventFields) -> bool:
        """Whether an event is one of them."""
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
