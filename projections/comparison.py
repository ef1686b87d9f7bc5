"""Comparing what the log says with what a table holds, column by column.

A difference says which value was expected and which was found, unless the column is personal: then
it says only that the two differ.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

from domain.alert import Alert
from domain.events.personal import Sealed
from domain.events.users import Role, UserOrigin
from domain.family import Family
from domain.ids import UserId
from domain.user import User
from projections.alert_rows import AlertRow, alert_of, alert_row_of
from projections.folding import (
    ALERTS,
    FAMILIES,
    USERS,
    DamagedStream,
    FoldRules,
    Opener,
    StateT,
    open_alert,
    open_family,
    open_user,
)
from projections.session_rows import SessionRow, StillSealedError, family_of, rows_of


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
    erased_at: datetime | None


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
        user.erased_at,
    )


def user_of_row(row: UserRow) -> User:
    """The user that a row stands for."""
    return User(
        user_id=row.user_id,
        version=row.version,
        origin=UserOrigin(row.origin),
        username=row.username,
        external_subject=row.external_subject,
        roles=tuple(map(Role, row.roles)),
        registered_at=row.registered_at,
        disabled_at=row.disabled_at,
        credential_epoch=row.credential_epoch,
        erased_at=row.erased_at,
    )


AnyRow = SessionRow | UserRow | AlertRow
RowT = TypeVar("RowT", SessionRow, UserRow, AlertRow)


@dataclass(frozen=True, slots=True)
class Projection(Generic[StateT, RowT]):
    """A table that holds the fold of one kind of stream.

    Attributes:
        table: Its name.
        key: Its primary key; also the attribute of a row that has it.
        owner: The column that has the id of the stream's state, which may have several rows; also
            the attribute of a row or state that has it.
        version: The column that has the version of the stream's state.
        subject: The column that has the user whose data key sealed what is personal; also the
            attribute of a state that has them.
        order: Columns that a state's rows are ordered by.
        personal: Columns that are null once the user is erased.
        row: The struct whose fields are the columns.
        rules: How its streams are folded.
        opened: Opens what a folded state holds sealed.
        rows_of: The rows that stand for a state.
        state_of: The state that its rows, in order, stand for.
    """

    table: str
    key: str
    owner: str
    version: str
    subject: str
    order: str
    personal: tuple[str, ...]
    row: type[RowT]
    rules: FoldRules[StateT]
    opened: Callable[[StateT, Opener], StateT]
    rows_of: Callable[[StateT], Sequence[RowT]]
    state_of: Callable[[Sequence[RowT]], StateT]


SESSIONS: Projection[Family, SessionRow] = Projection(
    table="sessions",
    key="session_id",
    owner="family_id",
    version="family_version",
    subject="user_id",
    order="family_id, ordinal",
    personal=("client", "device_name"),
    row=SessionRow,
    rules=FAMILIES,
    opened=open_family,
    rows_of=rows_of,
    state_of=family_of,
)
USER_ROWS: Projection[User, UserRow] = Projection(
    table="users",
    key="user_id",
    owner="user_id",
    version="version",
    subject="user_id",
    order="user_id",
    personal=("username", "external_subject"),
    row=UserRow,
    rules=USERS,
    opened=open_user,
    rows_of=lambda user: [user_row_of(user)],
    state_of=lambda rows: user_of_row(rows[0]),
)
ALERT_ROWS: Projection[Alert, AlertRow] = Projection(
    table="alerts",
    key="alert_id",
    owner="alert_id",
    version="version",
    subject="subject_id",
    order="alert_id",
    personal=("client", "fact_texts"),
    row=AlertRow,
    rules=ALERTS,
    opened=open_alert,
    rows_of=lambda alert: [alert_row_of(alert)],
    state_of=alert_of,
)

_PERSONAL = frozenset(SESSIONS.personal + USER_ROWS.personal + ALERT_ROWS.personal)


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
        table: Which table; ``events`` for a damaged stream.
        key: The row's primary key; a stream's name.
        column: Which column, where one differs; None where a row differs in its bytes alone.
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
            case DifferenceKind.DIFFERS if self.column is None:
                return f"{self.table} {self.key}: other bytes of the same values"
            case DifferenceKind.DIFFERS if self.column in _PERSONAL:
                return f"{self.table} {self.key} {self.column}: personal data differs"
            case DifferenceKind.DIFFERS:
                return (
                    f"{self.table} {self.key} {self.column}: "
                    f"expected {self.expected}, found {self.found}"
                )


def differences(
    projection: Projection[StateT, RowT], state: StateT, found: Sequence[RowT]
) -> list[Difference]:
    """How the rows of one state differ from it.

    Args:
        projection: Which table they are from.
        state: As folded, its personal data opened.
        found: Every row that the table has for it.

    Raises:
        StillSealedError: Its personal data was not opened.
    """
    expected = {getattr(row, projection.key): row for row in projection.rows_of(state)}
    present = {getattr(row, projection.key): row for row in found}
    return row_differences(projection.table, expected, present)


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


def row_differences(
    table: str,
    expected: Mapping[str, msgspec.Struct],
    found: Mapping[str, msgspec.Struct],
) -> list[Difference]:
    """How rows differ from those that there should be.

    Args:
        table: Which table they are from.
        expected: By primary key.
        found: Likewise.
    """
    result = []
    for key, row in expected.items():
        other = found.get(key)
        if other is None:
            result.append(Difference(kind=DifferenceKind.MISSING_ROW, table=table, key=key))
        else:
            result.extend(_column_differences(table, key, row, other))
    result.extend(extra_row(table, key) for key in found if key not in expected)
    return result


def _column_differences(
    table: str, key: str, expected: msgspec.Struct, found: msgspec.Struct
) -> Iterable[Difference]:
    for column in expected.__struct_fields__:
        one, other = getattr(expected, column), getattr(found, column)
        if one == other or _meaning(one) == _meaning(other):
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


def _meaning(value: object) -> object:
    """The value itself; of JSON text what it says, for ``jsonb`` keeps no spelling."""
    return msgspec.json.decode(value) if isinstance(value, bytes | msgspec.Raw) else value


def _text(value: object) -> str:
    match value:
        case None:
            return "null"
        case datetime():
            return value.isoformat()
        case bytes() | msgspec.Raw():
            return bytes(value).decode()
        case list():
            return "{" + ", ".join(map(_text, value)) + "}"
        case _:
            return str(value)
