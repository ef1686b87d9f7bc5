"""Canonical bytes: RFC 8785 without floats, exact to the microsecond."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.events.canonical import (
    JsonValue,
    canonical_event_bytes,
    canonical_json,
    from_microseconds,
    microseconds,
)
from tests.unit.domain.builders import NOW

MAX_INTEGER = 2**53 - 1
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
JSON: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | TEXTS,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(TEXTS, children, max_size=4),
    max_leaves=12,
)


def test_names_sort_by_utf_16_code_units() -> None:
    """The example of RFC 8785, section 3.2.3: the emoji's surrogates come before U+FB33."""
    value: JsonValue = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }

    names = list(json.loads(canonical_json(value)))

    assert names == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


def test_names_sort_by_units_and_not_by_length_or_bytes() -> None:
    value: JsonValue = {"b": 1, "aa": 2, "a": 3, "": 4, "\ue000": 5, "\U00010000": 6, "A": 7}

    assert canonical_json(value) == (
        '{"":4,"A":7,"a":3,"aa":2,"b":1,"\U00010000":6,"\ue000":5}'.encode()
    )


def test_names_sort_at_every_depth() -> None:
    value: JsonValue = {"b": [{"d": 1, "c": {"f": 2, "e": 3}}], "a": {}}

    assert canonical_json(value) == b'{"a":{},"b":[{"c":{"e":3,"f":2},"d":1}]}'


def test_strings_are_escaped_as_rfc_8785_says() -> None:
    """Its section 3.2.2.2: two-character escapes where there are, else lower-case hexadecimal."""
    text = '\u20ac$\u000f\nA\'B"\\\\"/'

    assert canonical_json(text) == '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'.encode()


@pytest.mark.parametrize(
    ("character", "written"),
    [
        ("\b", "\\b"),
        ("\t", "\\t"),
        ("\n", "\\n"),
        ("\f", "\\f"),
        ("\r", "\\r"),
        ('"', '\\"'),
        ("\\", "\\\\"),
        ("\x00", "\\u0000"),
        ("\x0b", "\\u000b"),
        ("\x1f", "\\u001f"),
        ("/", "/"),
        ("\x7f", "\x7f"),
        ("\u2028", "\u2028"),
        ("\ufeff", "\ufeff"),
        ("\U0001f600", "\U0001f600"),
    ],
    ids=lambda text: ascii(text).replace("\\", ""),
)
def test_a_character_has_one_spelling(character: str, written: str) -> None:
    assert canonical_json(character) == f'"{written}"'.encode()
    assert canonical_json({character: 0}) == f'{{"{written}":0}}'.encode()


def test_text_is_not_normalised() -> None:
    assert canonical_json(["\u00e9", "e\u0301"]) == '["\u00e9","e\u0301"]'.encode()


def test_a_lone_surrogate_has_no_canonical_form() -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        canonical_json("\ud800")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, b"0"),
        (-1, b"-1"),
        (MAX_INTEGER, b"9007199254740991"),
        (-MAX_INTEGER, b"-9007199254740991"),
        (True, b"true"),
        (False, b"false"),
        (None, b"null"),
        ([], b"[]"),
        ({}, b"{}"),
        ([1, [True, None]], b"[1,[true,null]]"),
    ],
)
def test_a_value_has_one_spelling(value: JsonValue, written: bytes) -> None:
    assert canonical_json(value) == written


@pytest.mark.parametrize("integer", [MAX_INTEGER + 1, -MAX_INTEGER - 1, 10**30])
def test_an_integer_that_json_cannot_carry_exactly_is_refused(integer: int) -> None:
    with pytest.raises(
        ValueError, match=rf"^{integer} is beyond the integers that JSON carries exactly$"
    ):
        canonical_json({"a": [integer]})


@pytest.mark.parametrize("number", [0.0, 1.0, -0.5, float("nan"), float("inf")])
def test_a_float_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match=r"^canonical JSON has no place for the float "):
        canonical_json({"a": [number]})


@given(value=JSON)
def test_canonical_json_reads_back_and_has_one_form(value: JsonValue) -> None:
    canonical = canonical_json(value)

    read = json.loads(canonical)

    assert read == value
    assert canonical_json(read) == canonical


@given(value=st.dictionaries(TEXTS, st.integers(0, 9)))
def test_the_order_in_which_names_come_does_not_matter(value: dict[str, JsonValue]) -> None:
    """As in ``jsonb``, which keeps no order."""
    turned = dict(reversed(value.items()))

    assert canonical_json(turned) == canonical_json(value)


def test_an_envelope_without_its_optional_parts_says_null() -> None:
    canonical = canonical_event_bytes(
        position=1,
        stream="key-k",
        version=1,
        event_id="e",
        type_="ServiceKeyRevoked",
        schema_version=1,
        occurred_at=datetime(1970, 1, 1, 0, 0, 1, 2, tzinfo=UTC),
        subject_id=None,
        actor="system:x",
        correlation_id="c",
        causation_id=None,
        data={},
        sealed_personal=None,
    )

    assert canonical == (
        b'{"actor":"system:x","causation_id":null,"correlation_id":"c","data":{},"event_id":"e",'
        b'"occurred_at":1000002,"personal":null,"position":1,"schema_version":1,"stream":"key-k",'
        b'"subject_id":null,"type":"ServiceKeyRevoked","version":1}'
    )


@pytest.mark.parametrize(
    ("instant", "count"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1),
        (NOW, 1_772_366_400_250_001),
        (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), 253_402_300_799_999_999),
        (datetime(1, 1, 1, tzinfo=UTC), -62_135_596_800_000_000),
        (datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 0),
    ],
)
def test_microseconds_are_counted_from_1970(instant: datetime, count: int) -> None:
    assert microseconds(instant) == count
    assert from_microseconds(count) == instant


@given(instant=st.datetimes(timezones=st.just(UTC)))
def test_microseconds_are_exact(instant: datetime) -> None:
    assert from_microseconds(microseconds(instant)) == instant


@given(instant=st.datetimes(max_value=datetime(9999, 12, 31, 23, 59, 59, 999_998)))  # noqa: DTZ001
def test_instants_a_microsecond_apart_are_one_apart(instant: datetime) -> None:
    """Where a float of seconds, for one, has long run out of digits."""
    aware = instant.replace(tzinfo=UTC)

    assert microseconds(aware + timedelta(microseconds=1)) - microseconds(aware) == 1


def test_microseconds_read_back_in_utc() -> None:
    assert from_microseconds(0).utcoffset() == timedelta(0)


def test_an_instant_without_a_time_zone_is_refused() -> None:
    with pytest.raises(TypeError):
        microseconds(datetime(2026, 3, 1))  # noqa: DTZ001 (that is the point)
