"""The quick canonical bytes of a stored row are those of the definition, and never fail."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.events.canonical import (
    JsonValue,
    StoredEvent,
    canonical_event_bytes,
    canonical_stored_bytes,
    from_microseconds,
)

MAX_INTEGER = 2**53 - 1
# What a text of PostgreSQL can hold: no NUL and no lone surrogate.
STORED_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
SCALAR = st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | STORED_TEXT
DATA: st.SearchStrategy[JsonValue] = st.recursive(
    SCALAR,
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(STORED_TEXT, children, max_size=4)
    ),
    max_leaves=30,
)
MICROSECONDS = st.integers(-MAX_INTEGER, MAX_INTEGER)


def printed(value: object) -> bytes:
    """As PostgreSQL prints a jsonb, but for the order of names, which must not matter."""
    return json.dumps(value, ensure_ascii=False).encode()


def stored(data: bytes = b"{}", /, **columns: object) -> StoredEvent:
    return StoredEvent(
        **{
            "actor": "user", "causation_id": None, "correlation_id": "c", "data": data,
            "event_id": "e", "occurred_at": 1, "personal": None, "position": 1,
            "schema_version": 1, "stream": "s", "subject_id": None, "type": "T", "version": 1,
        } | columns  # type: ignore[arg-type]  # a test's columns
    )  # fmt: skip


@given(
    data=st.dictionaries(STORED_TEXT, DATA, max_size=5),
    occurred_at=MICROSECONDS,
    personal=st.none() | st.binary(max_size=80),
    texts=st.tuples(*[STORED_TEXT] * 5),
    absent=st.tuples(*[st.none() | STORED_TEXT] * 2),
    position=st.integers(1, MAX_INTEGER),
    versions=st.tuples(st.integers(1, 2**31 - 1), st.integers(1, 2**15 - 1)),
)
def test_a_rows_bytes_are_those_of_the_event(
    data: dict[str, JsonValue],
    occurred_at: int,
    personal: bytes | None,
    texts: tuple[str, ...],
    absent: tuple[str | None, ...],
    position: int,
    versions: tuple[int, int],
) -> None:
    stream, event_id, type_, actor, correlation_id = texts
    subject_id, causation_id = absent
    expected = canonical_event_bytes(
        position=position,
        stream=stream,
        version=versions[0],
        event_id=event_id,
        type_=type_,
        schema_version=versions[1],
        occurred_at=from_microseconds(occurred_at),
        subject_id=subject_id,
        actor=actor,
        correlation_id=correlation_id,
        causation_id=causation_id,
        data=data,
        sealed_personal=personal,
    )

    quick = canonical_stored_bytes(
        StoredEvent(
            position=position,
            stream=stream,
            version=versions[0],
            event_id=event_id,
            type=type_,
            schema_version=versions[1],
            occurred_at=occurred_at,
            subject_id=subject_id,
            actor=actor,
            correlation_id=correlation_id,
            causation_id=causation_id,
            data=printed(data),
            personal=personal,
        )
    )

    assert quick == expected


@pytest.mark.parametrize("code", [*range(1, 0x20), 0x22, 0x5C, 0x7F, 0x80, 0x2028, 0x1F600])
def test_a_character_is_spelled_as_the_definition_spells_it(code: int) -> None:
    data: dict[str, JsonValue] = {"a": chr(code), chr(code): [chr(code)]}
    expected = canonical_event_bytes(
        position=1, stream="s", version=1, event_id="e", type_="T", schema_version=1,
        occurred_at=datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC), subject_id=None, actor="user",
        correlation_id="c", causation_id=None, data=data, sealed_personal=None,
    )  # fmt: skip

    assert canonical_stored_bytes(stored(printed(data))) == expected


def test_names_sort_by_utf_16_code_units() -> None:
    quick = canonical_stored_bytes(stored('{"\ufb33": 1, "\U0001f600": 2, "a": 3}'.encode()))

    assert '"data":{"a":3,"\U0001f600":2,"\ufb33":1}'.encode() in quick


@pytest.mark.parametrize("depth", [7, 8, 9, 10, 99, 100], ids=lambda depth: f"{depth} levels")
def test_nested_data_has_its_canonical_form(depth: int) -> None:
    text = b'{"b": ' * depth + b"1" + b', "a": "[{"}' * depth

    quick = canonical_stored_bytes(stored(text))

    assert b'"data":' + b'{"a":"[{","b":' * depth + b"1" + b"}" * depth + b',"event_id"' in quick


TAMPERED = [
    b'{"n": 1.0}', b'{"n": 1}', b'{"n": 1.00}', b'{"n": 1.5}', b'{"n": "1.0"}', b'{"n": 0.1}',
    b'{"n": 0.1000000000000000055511151231257827}', b'{"n": 9007199254740991}',
    b'{"n": 9007199254740992}', b'{"n": 9007199254740993}', b'{"n": "9007199254740993"}',
    b'{"n": 18446744073709551616}', b'{"n": 18446744073709551617}', b'{"n": -9007199254740992}',
    b'{"n": ' + b"9" * 6000 + b"}", b'{"n": ' + b"9" * 6001 + b"}",
    b"[" * 101 + b"]" * 101, b"[" * 102 + b"]" * 102, b"[" * 6000 + b"]" * 6000,
    b"1", b"null", b'"text"', b"[]", b"{}", b'{"\xc3\xa9": 1.0}', b'{"\xc3\xa9": 1}',
]  # fmt: skip


def test_data_that_only_tampering_makes_stops_nobody_and_is_told_apart() -> None:
    encoded = [canonical_stored_bytes(stored(text)) for text in TAMPERED]

    assert len(set(encoded)) == len(TAMPERED)


@pytest.mark.parametrize(
    "column",
    [
        {"occurred_at": 2**63 - 1 + 946_684_800_000_000},
        {"occurred_at": -(2**63) + 946_684_800_000_000},
        {"position": 2**63 - 1},
        {"version": -1},
        {"personal": b""},
        {"personal": b"\x00"},
        {"subject_id": ""},
        {"causation_id": "null"},
    ],
    ids=lambda column: "-".join(f"{name}={value}" for name, value in column.items()),
)
def test_a_changed_column_changes_the_bytes(column: dict[str, object]) -> None:
    assert canonical_stored_bytes(stored(**column)) != canonical_stored_bytes(stored())
