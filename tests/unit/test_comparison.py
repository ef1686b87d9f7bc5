"""Comparing a folded state with its rows: every column counts, and nothing personal is told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from domain.client import ClientContext
from domain.events.personal import Sealed
from domain.events.users import Role, UserOrigin
from domain.family import Family
from domain.ids import SessionId, Stream, UserId
from domain.user import User
from infra.user_rows import USER_COLUMNS, user_of
from projections.comparison import (
    SESSIONS,
    USER_ROWS,
    Difference,
    DifferenceKind,
    UserRow,
    damage,
    differences,
    extra_row,
    row_differences,
    user_of_row,
    user_row_of,
)
from projections.folding import DamagedStream
from projections.session_rows import SESSION_COLUMNS, SessionRow, StillSealedError, rows_of
from tests.unit.domain.builders import (
    LAPTOP,
    MINUTE,
    NOW,
    OTHER_SESSION_ID,
    SESSION_ID,
    USER_ID,
    changed,
    refresh,
    refreshed,
    revoked,
    signed_in,
    start_session,
    under_step_up,
    with_second_session,
)

USER = User(
    user_id=USER_ID,
    version=3,
    origin=UserOrigin.LOCAL,
    username="ada@example.com",
    roles=(Role.ADMIN, Role.ANALYST),
    registered_at=NOW,
    disabled_at=NOW + MINUTE,
    credential_epoch=1,
)
PERSONAL = {"client", "device_name", "username", "external_subject"}
SEALED = Sealed("0195513a-0000-7000-8000-0000000e0001", b"a box")


def lived() -> Family:
    """A family that has something in every column."""
    family, token = signed_in(start_session(device_name="my laptop"))
    family, _ = refreshed(family, refresh(token))
    family = changed(under_step_up(family), late_retries=(NOW,), refusal_recorded_at=NOW)
    return revoked(family, NOW + timedelta(hours=1))


def as_stored(row: SessionRow) -> SessionRow:
    """The row as it comes back: ``jsonb`` keeps what JSON says, not how it was spelled."""
    if row.client is None:
        return row
    fields = msgspec.json.decode(row.client)
    respelled = msgspec.json.format(msgspec.json.encode(dict(reversed(fields.items()))), indent=1)
    return replace(row, client=respelled)


def stored_rows(family: Family) -> list[SessionRow]:
    return [as_stored(row) for row in rows_of(family)]


def tampered(value: object) -> object:
    """Another value of the same type."""
    match value:
        case None:
            return NOW
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return value + "x"
        case datetime():
            return value + timedelta(microseconds=1)
        case list():
            return [*value, tampered(value[0])]
        case _:
            return msgspec.json.encode(ClientContext(ip="198.51.100.66"))


# -------------------------------------------------------------------------------------- sessions


def test_the_rows_that_a_family_was_written_as_do_not_differ_from_it() -> None:
    family = lived()

    assert differences(SESSIONS, family, stored_rows(family)) == []


def test_the_order_of_the_rows_of_a_family_makes_no_difference() -> None:
    family = with_second_session(lived())

    assert differences(SESSIONS, family, stored_rows(family)[::-1]) == []


@pytest.mark.parametrize("column", [each for each in SESSION_COLUMNS if each != "session_id"])
def test_a_session_row_differs_in_whichever_column_was_changed(column: str) -> None:
    family = lived()
    (row,) = stored_rows(family)
    wrong = replace(row, **{column: tampered(getattr(row, column))})

    (difference,) = differences(SESSIONS, family, [wrong])

    assert difference.kind is DifferenceKind.DIFFERS
    assert (difference.table, difference.key, difference.column) == (
        "sessions",
        SESSION_ID,
        column,
    )


@pytest.mark.parametrize(
    "column", [each for each in SESSION_COLUMNS if each not in {"session_id", "family_id"}]
)
def test_a_session_row_differs_in_whichever_column_was_emptied(column: str) -> None:
    family = lived()
    wrong = replace(stored_rows(family)[0], **{column: None})

    (difference,) = differences(SESSIONS, family, [wrong])

    assert difference.column == column


def test_a_difference_tells_what_was_expected_and_what_was_found() -> None:
    family = lived()
    (row,) = stored_rows(family)
    wrong = replace(row, generation=7, salt=None, late_retries=[])

    lines = [str(each) for each in differences(SESSIONS, family, [wrong])]

    assert lines == [
        f"sessions {SESSION_ID} generation: expected 2, found 7",
        f"sessions {SESSION_ID} salt: expected {row.salt}, found null",
        f"sessions {SESSION_ID} late_retries: expected {{{NOW.isoformat()}}}, found {{}}",
    ]


def test_an_instant_is_the_same_in_every_time_zone() -> None:
    family = lived()
    (row,) = stored_rows(family)
    elsewhere = datetime.fromisoformat("2026-03-01T13:00:00.250001+01:00")
    assert row.started_at.tzinfo is UTC

    assert differences(SESSIONS, family, [replace(row, started_at=elsewhere)]) == []


def test_a_row_that_was_deleted_is_missing() -> None:
    family = with_second_session(lived())

    (difference,) = differences(SESSIONS, family, stored_rows(family)[:1])

    assert difference == Difference(
        kind=DifferenceKind.MISSING_ROW, table="sessions", key=OTHER_SESSION_ID
    )
    assert str(difference) == f"sessions {OTHER_SESSION_ID}: the row is missing"


def test_a_row_that_was_inserted_is_extra() -> None:
    family = lived()
    rows = stored_rows(family)
    stranger = replace(rows[0], session_id=SessionId("a stranger"), ordinal=1)

    (difference,) = differences(SESSIONS, family, [*rows, stranger])

    assert difference == extra_row("sessions", "a stranger")
    assert str(difference) == "sessions a stranger: the log knows of no such row"


@pytest.mark.parametrize("column", ["client", "device_name"])
@pytest.mark.parametrize("erased_in", ["log", "table"])
def test_personal_data_that_only_one_side_has_differs(column: str, erased_in: str) -> None:
    family = lived()
    (row,) = stored_rows(family)
    nothing: dict[str, Any] = {column: None}  # Any: as keyword arguments of another signature
    if erased_in == "table":
        row = replace(row, **nothing)
    else:
        family = changed(family, events=0, **nothing)

    (difference,) = differences(SESSIONS, family, [row])

    assert difference.column == column


def test_of_an_erased_user_the_personal_columns_are_null_on_both_sides() -> None:
    family = changed(lived(), events=0, client=None, device_name=None)

    assert differences(SESSIONS, family, rows_of(family)) == []


def test_a_field_that_our_client_context_does_not_have_is_a_difference_too() -> None:
    family = lived()
    (row,) = stored_rows(family)
    fields = msgspec.json.decode(row.client or b"") | {"note": "planted"}

    (difference,) = differences(
        SESSIONS, family, [replace(row, client=msgspec.json.encode(fields))]
    )

    assert difference.column == "client"


def test_a_personal_value_is_never_told() -> None:
    family = lived()
    (row,) = stored_rows(family)
    wrong = replace(row, client=msgspec.json.encode(LAPTOP) + b" ", device_name="Ada's spare phone")
    other = replace(wrong, client=b'{"ip":"198.51.100.66"}')

    found = differences(SESSIONS, family, [other])

    assert [each.column for each in found] == ["client", "device_name"]
    for difference in found:
        assert (difference.expected, difference.found) == (None, None)
        assert str(difference).endswith(": personal data differs")
    told = repr(found) + " ".join(map(str, found))
    for secret in ("198.51", "203.0.113", "Ada", "laptop", "Firefox"):
        assert secret not in told


def test_a_family_that_is_still_sealed_cannot_be_compared() -> None:
    with pytest.raises(StillSealedError):
        differences(SESSIONS, changed(lived(), events=0, client=SEALED), [])


# ----------------------------------------------------------------------------------------- users


def test_a_user_row_has_the_columns_of_the_live_path_and_stands_for_the_same_user() -> None:
    row = user_row_of(USER)

    assert UserRow.__struct_fields__ == USER_COLUMNS
    assert user_of(msgspec.structs.astuple(row)) == USER
    assert user_of_row(row) == USER


@pytest.mark.parametrize("column", [each for each in USER_COLUMNS if each != "user_id"])
def test_a_user_row_differs_in_whichever_column_was_changed(column: str) -> None:
    row = user_row_of(USER)
    wrong = replace(row, **{column: tampered(getattr(row, column))})

    (difference,) = differences(USER_ROWS, USER, [wrong])

    assert (difference.kind, difference.table) == (DifferenceKind.DIFFERS, "users")
    assert (difference.key, difference.column) == (USER_ID, column)
    assert (difference.expected is None) == (column in PERSONAL)


def test_a_user_whose_row_is_right_does_not_differ() -> None:
    assert differences(USER_ROWS, USER, [user_row_of(USER)]) == []


def test_a_user_without_a_row_is_missing() -> None:
    assert differences(USER_ROWS, USER, []) == [
        Difference(kind=DifferenceKind.MISSING_ROW, table="users", key=USER_ID)
    ]


def test_a_user_row_under_another_id_is_extra_and_the_right_one_missing() -> None:
    found = differences(USER_ROWS, USER, [replace(user_row_of(USER), user_id=UserId("another"))])

    assert [each.kind for each in found] == [
        DifferenceKind.MISSING_ROW,
        DifferenceKind.EXTRA_ROW,
    ]


@pytest.mark.parametrize("field", ["username", "external_subject"])
def test_a_user_who_is_still_sealed_has_no_row(field: str) -> None:
    with pytest.raises(StillSealedError):
        user_row_of(replace(USER, **{field: SEALED}))


# ----------------------------------------------------------------------------------------- JSON


class Documented(msgspec.Struct):
    """A row with JSON text in a column, as a fold writes it and as a table gives it back."""

    facts: msgspec.Raw | bytes


def test_json_that_differs_is_shown_as_what_it_says() -> None:
    expected = {"x": Documented(msgspec.Raw(b'{"a":1}'))}

    (difference,) = row_differences("alerts", expected, {"x": Documented(b"7")})

    assert str(difference) == 'alerts x facts: expected {"a":1}, found 7'


# --------------------------------------------------------------------------------------- streams


def test_a_damaged_stream_is_told_with_its_fault() -> None:
    difference = damage(DamagedStream(Stream("family-x"), "version 3 where version 2 is due"))

    assert difference.kind is DifferenceKind.DAMAGED_STREAM
    assert str(difference) == "events family-x: version 3 where version 2 is due"
