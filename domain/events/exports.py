"""Events of the exports' stream: who took what out of the log, and why it was opened."""

from typing import ClassVar

import msgspec

from domain.events.registry import Event, register
from domain.exports import ExportFormat


@register
class LogExported(Event, frozen=True, kw_only=True):
    """Events were exported. It is appended before the file is handed over.

    Where the export is of one user, that is the envelope's subject. Personal: ``comment``, the
    reason that was given for opening personal data.

    Attributes:
        export_format: As what.
        events: How many.
        sha256: Of the file, in hexadecimal.
        head_size: How many leaves the tree has that its proofs lead to.
        revealed: Whether personal data was opened.
        since_us: Microseconds since 1970 UTC that they happened at or after; None without a bound.
        until_us: The same that they happened before.
        types: Of which types; empty for all.
        first_leaf: The first leaf of the tree that they might be, if that was chosen.
        end_leaf: The one behind the last that they might be.
    """

    TYPE: ClassVar[str] = "LogExported"

    export_format: ExportFormat
    events: int
    sha256: str
    head_size: int
    revealed: bool = False
    since_us: int | None = None
    until_us: int | None = None
    types: list[str] = msgspec.field(default_factory=list)
    first_leaf: int | None = None
    end_leaf: int | None = None
