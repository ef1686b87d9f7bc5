"""Events of the archives' stream: which part of the log went into files, and came back."""

from typing import ClassVar

from domain.events.registry import Event, register


@register
class LogArchived(Event, frozen=True, kw_only=True):
    """The oldest part of the log went into a file; its rows were removed in the same transaction.

    Attributes:
        archive_id: Names the archive.
        first_leaf: The first leaf of the tree that is in the file.
        end_leaf: The first one that is not.
        snapshot_id: The snapshot that folds go on from now.
        file_name: The file's name when it was written.
        sha256: Of the file, in hexadecimal.
        kept: How many of its rows stayed: those of streams that are always read whole.
    """

    TYPE: ClassVar[str] = "LogArchived"

    archive_id: str
    first_leaf: int
    end_leaf: int
    snapshot_id: str
    file_name: str
    sha256: str
    kept: int


@register
class LogRestored(Event, frozen=True, kw_only=True):
    """The rows of an archive were put back.

    Attributes:
        archive_id: Which archive.
    """

    TYPE: ClassVar[str] = "LogRestored"

    archive_id: str


ArchiveEvent = LogArchived | LogRestored
