"""Parts of the log that were taken out of the database into files."""

import msgspec

from domain.as_of import UnknownPlaceError

LEAVES_A_BUNDLE = 256
"""Whole bundles are archived, so that counting leaves within a bundle stays right."""
KEPT_WHOLE = ("policy", "key", "audit")
"""How the names of streams begin that are read from their first event: their rows always stay."""


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the log that is in a file.

    Attributes:
        archive_id: Its id.
        first_leaf: The first leaf in it.
        end_leaf: The first one that is not.
        transaction_id: Of the last event in it.
        position: Of that event.
        snapshot_id: The snapshot that folds go on from while it is not restored.
        file_name: The file's name when it was written.
        sha256: Of the file.
        kept: How many of its rows stayed in the database: those of ``KEPT_WHOLE``.
    """

    archive_id: str
    first_leaf: int
    end_leaf: int
    transaction_id: int
    position: int
    snapshot_id: str
    file_name: str
    sha256: bytes
    kept: int

    @property
    def leaves(self) -> int:
        """How many leaves it holds."""
        return self.end_leaf - self.first_leaf


class ArchivedError(UnknownPlaceError):
    """What was asked for is in an archive; the message says in which file."""

    def __init__(self, what: str, archive: Archive) -> None:
        """Say what was asked for."""
        super().__init__(
            f"{what} is archived in {archive.file_name}:"
            " `sessiontrail audit restore` brings it back"
        )
        self.archive = archive


class NotArchivedError(Exception):
    """Nothing was archived or restored; the message says why."""
