"""The event registry: what is registered, what is read back, and what is refused by name."""

import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from domain import events
from domain.events.envelope import (
    ANONYMOUS,
    EXPIRY,
    REUSE_RULE,
    USER,
    Actor,
    ActorKind,
    parse_actor,
)
from domain.events.families import RefreshRetried, SessionEnded
from domain.events.personal import Personal, Sealed, client_of, device_name_of
from domain.events.registry import (
    Event,
    MalformedEventError,
    UnknownEventError,
    decode_event,
    register,
    registered_types,
    upcaster,
)
from tests.unit.domain.builders import PHONE, USER_ID

ROOT = Path(__file__).parents[3]


@register
class ParcelSent(Event, frozen=True, kw_only=True):
    """A type of the tests' own, in its third version.

    Version 1 had ``grams`` and ``to``; 2 split ``to`` into a list; 3 calls ``grams`` ``weight_mg``.
    """

    TYPE: ClassVar[str] = "TestParcelSent"
    SCHEMA_VERSION: ClassVar[int] = 3

    weight_mg: int
    stops: list[str]
    fragile: bool = False


@upcaster("TestParcelSent", 1)
def _split_destination(fields: dict[str, object]) -> dict[str, object]:
    return {**fields, "stops": str(fields["to"]).split(">")}


@upcaster("TestParcelSent", 2)
def _weigh_in_milligrams(fields: dict[str, object]) -> dict[str, object]:
    grams = fields["grams"]
    return {**fields, "weight_mg": grams * 1000 if isinstance(grams, int) else grams}


def test_the_current_version_is_read_as_it_stands() -> None:
    event = decode_event(
        "TestParcelSent", 3, b'{"weight_mg": 5, "stops": ["Ulm"], "fragile": true}'
    )

    assert event == ParcelSent(weight_mg=5, stops=["Ulm"], fragile=True)


def test_old_event_version() -> None:
    """Through one upcaster, or through each in turn."""
    second = decode_event("TestParcelSent", 2, b'{"grams": 3, "stops": ["Ulm"]}')
    first = decode_event("TestParcelSent", 1, b'{"grams": 3, "to": "Ulm>Bern", "fragile": true}')

    assert second == ParcelSent(weight_mg=3000, stops=["Ulm"])
    assert first == ParcelSent(weight_mg=3000, stops=["Ulm", "Bern"], fragile=True)


def test_unknown_event() -> None:
    with pytest.raises(
        UnknownEventError,
        match=r"^event type 'SessionTeleported' version 4 is newer than this build knows; "
        r"upgrade the reader$",
    ) as caught:
        decode_event("SessionTeleported", 4, b"{}")

    assert (caught.value.event_type, caught.value.schema_version) == ("SessionTeleported", 4)


@pytest.mark.parametrize("version", [-1, 0, 4, 2**31])
def test_a_version_that_this_build_does_not_know_is_unknown(version: int) -> None:
    with pytest.raises(UnknownEventError) as caught:
        decode_event("TestParcelSent", version, b'{"weight_mg": 5, "stops": []}')

    assert (caught.value.event_type, caught.value.schema_version) == ("TestParcelSent", version)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b'{"weight_mg": 5}',
        b'{"weight_mg": "5", "stops": []}',
        b'{"weight_mg": 5.5, "stops": []}',
        b'{"weight_mg": 5, "stops": [1]}',
        b'{"weight_mg": 5, "stops": null}',
        b'{"weight_mg": 5, "stops": []} trailing',
        pytest.param(b'{"weight_mg": 5, "stops": [], "later": ' + b"[" * 5_000, id="deep"),
    ],
)
def test_data_that_does_not_fit_its_type_is_malformed(data: bytes) -> None:
    with pytest.raises(
        MalformedEventError,
        match=r"^data of a 'TestParcelSent' event does not fit version 3: .+",
    ):
        decode_event("TestParcelSent", 3, data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"grams": "3", "to": "Ulm"}',
        b'{"grams": 3, "to": 4, "fragile": 2}',
        pytest.param(b'{"grams": ' + b"[" * 5_000, id="deep"),
    ],
)
def test_old_data_that_does_not_fit_is_malformed(data: bytes) -> None:
    with pytest.raises(
        MalformedEventError,
        match=r"^data of a 'TestParcelSent' event does not fit version 1: .+",
    ):
        decode_event("TestParcelSent", 1, data)


def test_a_value_outside_a_closed_set_is_malformed() -> None:
    """A new member of an enum is a new schema version, or an older reader stops so."""
    with pytest.raises(MalformedEventError, match="'teleported'"):
        decode_event("SessionEnded", 1, b'{"reason": "teleported"}')


def test_a_type_name_is_registered_once() -> None:
    class Impostor(Event, frozen=True, kw_only=True):
        TYPE: ClassVar[str] = "SessionEnded"

    with pytest.raises(ValueError, match=r"^event type 'SessionEnded' is registered twice$"):
        register(Impostor)

    assert registered_types()["SessionEnded"] is SessionEnded


def test_the_list_of_types_is_a_copy() -> None:
    registered_types().clear()

    assert registered_types()["SessionEnded"] is SessionEnded


def test_an_event_type_is_named_as_its_class_is() -> None:
    """The name is on the wire for good; the class could be renamed, and is not, unnoticed."""
    ours = [cls for cls in registered_types().values() if cls.__module__.startswith("domain.")]

    assert [cls.TYPE for cls in ours] == [cls.__name__ for cls in ours]


def test_events_are_values() -> None:
    event = RefreshRetried(generation=2)

    assert event == RefreshRetried(session=0, generation=2, late=False)
    with pytest.raises(AttributeError):
        event.generation = 3  # type: ignore[misc] # that is the point


# Who causes events, and whom they name


@pytest.mark.parametrize(
    ("actor", "text"),
    [
        (USER, "user"),
        (ANONYMOUS, "anonymous"),
        (REUSE_RULE, "rule:refresh-token-reuse"),
        (EXPIRY, "system:expiry"),
        (Actor(ActorKind.STAFF, USER_ID), f"staff:{USER_ID}"),
        (Actor(ActorKind.SERVICE, "a:b"), "service:a:b"),
        (Actor(ActorKind.OPERATOR, "root"), "operator:root"),
    ],
)
def test_an_actor_has_one_stored_form(actor: Actor, text: str) -> None:
    assert str(actor) == text
    assert parse_actor(text) == actor


@pytest.mark.parametrize("text", ["", "root", "User", ":user"])
def test_an_actor_of_no_kind_of_ours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid ActorKind"):
        parse_actor(text)


def test_a_personal_part_gives_what_it_holds() -> None:
    personal = Personal(client=PHONE, device_name="phone")

    assert (client_of(personal), device_name_of(personal)) == (PHONE, "phone")
    assert (client_of(Personal()), device_name_of(Personal())) == (None, None)


def test_a_sealed_part_stands_for_whatever_it_holds() -> None:
    sealed = Sealed("event", b"box")

    assert client_of(sealed) is sealed
    assert device_name_of(sealed) is sealed
    assert client_of(None) is device_name_of(None) is None


def test_every_event_type_is_known_whatever_was_imported() -> None:
    folder = Path(events.__file__).parent
    written = {
        name
        for file in folder.glob("*.py")
        for name in re.findall(r'TYPE: ClassVar\[str\] = "(\w+)"', file.read_text())
    }
    ask = "from domain.events.registry import registered_types; print(*registered_types())"

    known = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout

    assert set(known.split()) == written


def test_an_event_is_read_whatever_was_imported() -> None:
    ask = (
        "from domain.events.registry import decode_event;"
        """print(decode_event("ServiceKeyRevoked", 1, b'{"key_id": "0a"}'))"""
    )

    done = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert done.stdout == "ServiceKeyRevoked(key_id='0a')\n"
