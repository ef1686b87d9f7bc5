"""The wire form on the topic: fixed bytes, read back into the event that the log holds."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from domain.events.envelope import ActorKind
from domain.events.families import RefreshTokenReused
from domain.events.keys import SigningKeyCreated
from domain.events.personal import Sealed
from domain.events.registry import MalformedEventError, UnknownEventError
from infra.kafka_messages import MalformedMessageError, envelope_of, event_of, message_of
from infra.tail import Place, recorded

GOLDEN = Path(__file__).parents[1] / "golden" / "kafka"

SUBJECT = "0195513a-0000-7000-8000-00000000ada1"
DATA = (
    b'{"session_id": "0195513a-0000-7000-8000-000000005e01",'
    b' "presented_generation": 3, "current_generation": 5}'
)
"""As the database writes JSON: with a space after each colon and comma."""
ROW = (
    42,
    7_000,
    "family-0195513a-0000-7000-8000-00000000fa01",
    7,
    "0195513a-0000-7000-8000-0000000e7e01",
    "RefreshTokenReused",
    1,
    datetime(2026, 3, 1, 12, 0, 0, 250_001, tzinfo=UTC),
    SUBJECT,
    "staff:0195513a-0000-7000-8000-00000000a11a",
    "0195513a-0000-7000-8000-00000000c001",
    "0195513a-0000-7000-8000-0000000e7e00",
    DATA,
    b"\xfb\xfc\xfd\xfe\xff",
)
"""A row as the tail hands it out."""
ROW_WITHOUT = (
    1,
    2**63,
    "key-kid",
    1,
    "0195513a-0000-7000-8000-0000000e7e02",
    "SigningKeyCreated",
    1,
    datetime(1970, 1, 1, tzinfo=UTC),
    None,
    "system:start",
    "0195513a-0000-7000-8000-00000000c001",
    None,
    b'{"kid": "k", "algorithm": "EdDSA", "public_jwk": "{}", "signs_from_us": 0}',
    None,
)
"""One without a subject, a cause or a personal part."""

ROWS = {"with_everything": ROW, "with_nothing": ROW_WITHOUT}


@pytest.mark.parametrize("name", ROWS)
def test_the_bytes_on_the_topic_stay_as_they_are(name: str) -> None:
    written = message_of(ROWS[name]).value

    assert written == (GOLDEN / f"{name}.json").read_bytes().rstrip(b"\n")


@pytest.mark.parametrize("name", ROWS)
def test_yesterdays_bytes_read_as_the_event_that_the_log_holds(name: str) -> None:
    read = event_of(envelope_of((GOLDEN / f"{name}.json").read_bytes()))

    assert read == recorded(ROWS[name])


def test_a_message_read_back_is_sealed_and_typed() -> None:
    read = event_of(envelope_of(message_of(ROW).value))

    assert isinstance(read.event, RefreshTokenReused)
    assert read.personal == Sealed(ROW[4], ROW[13])
    assert (read.cause.actor.kind, read.occurred_at.microsecond) == (ActorKind.STAFF, 250_001)


def test_the_key_is_the_subject_or_else_the_stream() -> None:
    assert message_of(ROW).key == SUBJECT.encode()
    assert message_of(ROW_WITHOUT).key == b"key-kid"


def test_fields_that_a_later_relay_adds_are_passed_over() -> None:
    later = b'{"tenant":"acme",' + message_of(ROW_WITHOUT).value[1:]

    assert isinstance(event_of(envelope_of(later)).event, SigningKeyCreated)


def test_an_event_of_a_newer_build_is_passed_on_and_has_its_place_but_is_not_read() -> None:
    newer = (*ROW[:5], "SessionTeleported", 9, *ROW[7:])

    message = message_of(newer)

    assert envelope_of(message.value).place == message.place == Place(7_000, 42)
    with pytest.raises(UnknownEventError, match="'SessionTeleported' version 9 is newer"):
        event_of(envelope_of(message.value))


def test_data_that_does_not_fit_its_type_is_told_from_a_newer_event() -> None:
    damaged = (*ROW[:12], b'{"session_id": 1}', None)

    with pytest.raises(MalformedEventError):
        event_of(envelope_of(message_of(damaged).value))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        b"[1]",
        b"\xff\x00",
        b'{"position":"1"}',
        pytest.param(b'{"x":' + b"[" * 5_000, id="deep"),
    ],
)
def test_what_no_relay_wrote_is_refused_as_such(value: bytes) -> None:
    with pytest.raises(MalformedMessageError, match="none of ours"):
        envelope_of(value)


def test_the_bytes_are_json_whose_personal_part_is_base64() -> None:
    fields = msgspec.json.decode(message_of(ROW).value)

    assert fields["personal"] == "+/z9/v8="
    assert fields["occurred_at_us"] == 1_772_366_400_250_001
