"""Comparing what the log says with what a table holds, column by column.

A difference says which value was expected and which was found, unless the column is personal: then
it says only that the two differ.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from domain.events.personal import Sealed
from domain.family import Family
from domain.ids import UserId
from domain.user import User
from projections.folding import DamagedStream
from projections.session_rows import SessionRow, StillSealedError, rows_of

SESSIONS_TABLE = "sessions"
USERS_TABLE = "users"

_PERSONAL = frozenset({"client", "device_name", "username", "external_subject"})


class UserRow(msgspec.Struct, frozen=True):
    """One row of ``users``; the fields are its columns, in the order they are selected.

    ``username`` and ``external_subject`` are in clear, and null once the user is erased.
    """

    user_id: UserId
    version: int
    origin: str
    username: str | None
    external_subject: str | None
    roles: list[str]
    registered_at: datetime
    disabled_at: datetime | None
    credential_epoch: int


def user_row_of(user: User) -> UserRow:
    """The row that stands for a user.

    Raises:
        StillSealedError: Their name was not opened.
    """
    username, subject = user.username, user.external_subject
    if isinstance(username, Sealed) or isinstance(subject, Sealed):
        msg = f"user {user.user_id} still holds sealed personal data"
        raise StillSealedError(msg)
    return UserRow(
        user.user_id,
        user.version,
        user.origin.value,
        username,
        subject,
        [role.value for role in user.roles],
        user.registered_at,
        user.disabled_at,
        user.credential_epoch,
    )


class DifferenceKind(StrEnum):
    """How a projection can fail to be the fold of the log."""

    MISSING_ROW = "missing_row"
    """The log tells of it, the table does not."""
    EXTRA_ROW = "extra_row"
    """The table has it, the log does not."""
    DIFFERS = "differs"
    """A column holds something else than the log says."""
    DAMAGED_STREAM = "damaged_stream"
    """The log itself cannot be folded there, so nothing can be said of the row."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as the log says.

    Attributes:
        kind: How it differs.
        table: ``sessions`` or ``users``; ``events`` for a damaged stream.
        key: The session's or user's id; a stream's name.
        column: Which column, where one differs.
        expected: What the log says; None where that is personal or does not apply.
        found: What is there, or what is wrong with a stream; None likewise.
    """

    kind: DifferenceKind
    table: str
    key: str
    column: str | None = None
    expected: str | None = None
    found: str | None = None

    def __str__(self) -> str:
        """One line for people."""
        match self.kind:
            case DifferenceKind.MISSING_ROW:
                return f"{self.table} {self.key}: the row is missing"
            case DifferenceKind.EXTRA_ROW:
                return f"{self.table} {self.key}: the log knows of no such row"
            case DifferenceKind.DAMAGED_STREAM:
                return f"{self.table} {self.key}: {self.found}"
            case DifferenceKind.DIFFERS if self.column in _PERSONAL:
                return f"{self.table} {self.key} {self.column}: personal data differs"
            case DifferenceKind.DIFFERS:
                return (
                    f"{self.table} {self.key} {self.column}: "
                    f"expected {self.expected}, found {self.found}"
                )


def family_differences(family: Family, found: Sequence[SessionRow]) -> list[Difference]:
    """How the rows of a family differ from its state.

    Args:
        family: As folded, its personal data opened.
        found: Every row of ``sessions`` with its family id.

    Raises:
        StillSealedError: Its personal data was not opened.
    """
    expected = {row.session_id: row for row in rows_of(family)}
    return _row_differences(SESSIONS_TABLE, expected, {row.session_id: row for row in found})


def user_differences(user: User, found: Sequence[UserRow]) -> list[Difference]:
    """How the row of a user differs from their state; arguments and errors as for a family."""
    expected = {user.user_id: user_row_of(user)}
    return _row_differences(USERS_TABLE, expected, {row.user_id: row for row in found})


def damage(stream: DamagedStream) -> Difference:
    """What is wrong with a stream, as a difference."""
    return Difference(
        kind=DifferenceKind.DAMAGED_STREAM,
        table="events",
        key=stream.stream,
        found=stream.fault,
    )


def extra_row(table: str, key: str) -> Difference:
    """A row that the log knows nothing of."""
    return Difference(kind=DifferenceKind.EXTRA_ROW, table=table, key=key)


def _row_differences(
    table: str,
    expected: Mapping[str, SessionRow | UserRow],
    found: Mapping[str, SessionRow | UserRow],
) -> list[Difference]:
    differences = []
    for key, row in expected.items():
        other = found.get(key)
        if other is None:
            differences.append(
                Difference(kind=DifferenceKind.MISSING_ROW, table=table, key=key)
            )
        elif row != other:
            differences.extend(_column_differences(table, key, row, other))
    differences.extend(extra_row(table, key) for key in found if key not in expected)
    return differences


def _column_differences(
    table: str, key: str, expected: SessionRow | UserRow, found: SessionRow | UserRow
) -> Iterable[Difference]:
    for column in expected.__struct_fields__:
        one, other = _plain(getattr(expected, column)), _plain(getattr(found, column))
        if one == other and type(one) is type(other):
            continue
        shown = column not in _PERSONAL
        yield Difference(
            kind=DifferenceKind.DIFFERS,
            table=table,
            key=key,
            column=column,
            expected=_text(one) if shown else None,
            found=_text(other) if shown else None,
        )


def _plain(value: object) -> object:
    """The value itself; of JSON text what it means, for ``jsonb`` keeps no spelling."""
    return msgspec.json.decode(value) if isinstance(value, bytes | msgspec.Raw) else value


def _text(value: object) -> str:
    match value:
        case None:
            return "null"
        case datetime():
            return value.isoformat()
        case list():
            return "{" + ", ".join(map(_text, value)) + "}"
        case _:
            return str(value)
