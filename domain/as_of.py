"""Where in the past somebody looks: an instant, or a place in the log."""

from datetime import UTC, datetime

import msgspec


class AtInstant(msgspec.Struct, frozen=True):
    """Every stream as its events up to then left it."""

    at: datetime

    def __str__(self) -> str:
        """As ``parse_as_of`` reads it."""
        return self.at.isoformat()


class AtPosition(msgspec.Struct, frozen=True):
    """After the event of that position, in the log's order."""

    position: int

    def __str__(self) -> str:
        """As ``parse_as_of`` reads it."""
        return f"position:{self.position}"


class AtLeaf(msgspec.Struct, frozen=True):
    """After the event that is that leaf of the tree; the first leaf is 0."""

    leaf: int

    def __str__(self) -> str:
        """As ``parse_as_of`` reads it."""
        return f"leaf:{self.leaf}"


AsOf = AtInstant | AtPosition | AtLeaf

_MAX_BIGINT = 2**63 - 1


class InvalidAsOfError(ValueError):
    """A text that names no instant and no place; the message says what would."""


class UnknownPlaceError(Exception):
    """There is no event at that place, or none that has been sequenced yet."""


class AlteredHistoryError(Exception):
    """What is stored of the past is not as it was written; the message says what."""


def parse_as_of(text: str) -> AsOf:
    """Read an instant or a place.

    >>> parse_as_of("2026-11-25T10:00:00+01:00").at.isoformat()
    '2026-11-25T09:00:00+00:00'
    >>> parse_as_of("position:41")
    AtPosition(position=41)

    Args:
        text: ISO 8601 with an offset or ``Z``; ``position:N``; or ``leaf:N``.

    Raises:
        InvalidAsOfError: It is none of these.
    """
    kind, _, number = text.strip().partition(":")
    if kind in {"position", "leaf"}:
        if not (number.isascii() and number.isdigit()) or int(number[:20]) > _MAX_BIGINT:
            msg = f"{kind}: is followed by a whole number"
            raise InvalidAsOfError(msg)
        return AtPosition(int(number)) if kind == "position" else AtLeaf(int(number))
    try:
        at = datetime.fromisoformat(text.strip())
        aware = None if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        msg = "give an instant with its offset (2026-11-25T10:00:00Z), position:N or leaf:N"
        raise InvalidAsOfError(msg) from error
    if aware is None:
        msg = "an instant needs an offset or Z: 2026-11-25T10:00:00Z"
        raise InvalidAsOfError(msg)
    return AtInstant(aware)
