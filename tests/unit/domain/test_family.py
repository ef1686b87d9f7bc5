"""``evolve``: what each event does to a family, and which events cannot be."""

from collections.abc import Sequence
from datetime import datetime

import pytest

from domain.client import ClientContext
from domain.events.envelope import NewEvent
from domain.events.families import (
    EndedSessionRefreshRefused,
    EndReason,
    ExpiryKind,
    FamilyEvent,
    FamilyRevoked,
    RefreshRetried,
    RefreshTokenReused,
    RefreshTokenRotated,
    RefreshTokenUnrecognised,
    SessionEnded,
    SessionExpired,
    SessionRenamed,
    SessionStarted,
    StepUpCompleted,
    StepUpRequired,
    TokenDelivery,
)
from domain.events.personal import Personal, PersonalPart, Sealed
from domain.family import Family, ImpossibleEventError, evolve, fold_new
from domain.ids import SessionId
from domain.policy import MAX_LATE_RETRY_BUDGET
from tests.unit.domain.builders import (
    CLIENT_ID,
    FAMILY_ID,
    HOUR,
    LAPTOP,
    MINUTE,
    NOW,
    OTHER_SESSION_ID,
    PHONE,
    SECOND,
    SESSION_ID,
    USER_ID,
    changed,
    only_session,
    signed_in,
    start_session,
    with_second_session,
)

STARTED = SessionStarted(
    session_id=SESSION_ID,
    user_id=USER_ID,
    client_id=CLIENT_ID,
    auth_methods=["pwd", "otp"],
    delivery=TokenDelivery.BODY,
    persistent=False,
    secret_hash="first",
    token_key=3,
    idle_timeout_s=60,
    absolute_lifetime_s=3600,
)
ROTATED = RefreshTokenRotated(generation=2, secret_hash="second", salt="salt", token_key=4)
SEALED = Sealed("event", b"box")
EVENTS_OF_A_SESSION: Sequence[FamilyEvent] = [
    ROTATED,
    RefreshRetried(generation=1),
    RefreshTokenReused(presented_generation=1, current_generation=2),
    RefreshTokenUnrecognised(presented_generation=2, current_generation=1),
    EndedSessionRefreshRefused(presented_generation=1),
    SessionRenamed(),
    SessionEnded(reason=EndReason.LOGOUT),
    SessionExpired(kind=ExpiryKind.IDLE),
    StepUpCompleted(auth_methods=["pwd"]),
]
EVENTS_OF_THE_FAMILY: Sequence[FamilyEvent] = [
    FamilyRevoked(reason=EndReason.STAFF),
    StepUpRequired(),
]


def type_of(event: object) -> str:
    return type(event).__name__


def after(
    family: Family | None, event: FamilyEvent, at: datetime = NOW, personal: PersonalPart = None
) -> Family:
    return evolve(family, FAMILY_ID, event, personal, at)


def test_a_family_starts_with_the_lifetimes_of_its_first_event() -> None:
    family = after(None, STARTED, personal=Personal(client=PHONE, device_name="phone"))

    session = only_session(family)
    assert (family.version, family.user_id, family.client_id) == (1, USER_ID, CLIENT_ID)
    assert family.auth_methods == ("pwd", "otp")
    assert family.signed_in_at == session.started_at == session.rotated_at == NOW
    assert family.expires_at == NOW + HOUR
    assert session.idle_expires_at == NOW + MINUTE
    assert session.delivery is TokenDelivery.BODY
    assert not session.persistent
    assert (session.generation, session.secret_hash, session.token_key) == (1, "first", 3)
    assert (session.previous_hash, session.salt) == (None, None)
    assert (session.client, session.device_name) == (PHONE, "phone")


@pytest.mark.parametrize("event", [*EVENTS_OF_A_SESSION, *EVENTS_OF_THE_FAMILY], ids=type_of)
def test_every_event_counts_one_version(event: FamilyEvent) -> None:
    family, _ = signed_in()

    assert after(family, event).version == 2


@pytest.mark.parametrize("event", [*EVENTS_OF_A_SESSION, *EVENTS_OF_THE_FAMILY], ids=type_of)
def test_a_family_begins_with_nothing_but_a_sign_in(event: FamilyEvent) -> None:
    with pytest.raises(
        ImpossibleEventError, match=f"^family {FAMILY_ID} begins with {type_of(event)}$"
    ):
        after(None, event)


def test_a_family_does_not_start_a_second_time() -> None:
    family, _ = signed_in()

    with pytest.raises(ImpossibleEventError, match=f"^family {FAMILY_ID} starts a second time$"):
        after(family, STARTED)


@pytest.mark.parametrize("ordinal", [-1, 1, 2])
def test_an_event_names_a_session_of_its_family(ordinal: int) -> None:
    family, _ = signed_in()
    event = SessionEnded(session=ordinal, reason=EndReason.LOGOUT)

    with pytest.raises(
        ImpossibleEventError,
        match=f"^SessionEnded names session {ordinal}, which family {FAMILY_ID} does not have$",
    ):
        after(family, event)


def test_an_event_changes_the_session_that_it_names() -> None:
    family = with_second_session(signed_in()[0])

    first = after(family, SessionEnded(session=0, reason=EndReason.LOGOUT))
    second = after(family, SessionEnded(session=1, reason=EndReason.LOGOUT))

    assert first == changed(family, ended_at=NOW, end_reason="logout")
    assert second == changed(family, ordinal=1, ended_at=NOW, end_reason="logout")


def test_a_rotation_makes_the_current_secret_the_previous_one() -> None:
    family = after(after(None, STARTED), ROTATED, NOW + SECOND, Personal(client=LAPTOP))

    session = only_session(family)
    assert (session.generation, session.secret_hash, session.previous_hash) == (
        2,
        "second",
        "first",
    )
    assert (session.salt, session.token_key) == ("salt", 4)
    assert session.rotated_at == session.last_seen_at == NOW + SECOND
    assert session.idle_expires_at == NOW + SECOND + MINUTE
    assert session.client == LAPTOP


def test_a_reuse_alone_changes_nothing() -> None:
    family, _ = signed_in()

    reused = after(family, RefreshTokenReused(presented_generation=1, current_generation=2))

    assert reused == changed(family)


@pytest.mark.parametrize(
    "event",
    [
        SessionEnded(reason=EndReason.STAFF),
        SessionExpired(kind=ExpiryKind.ABSOLUTE),
        FamilyRevoked(reason=EndReason.STAFF),
    ],
    ids=type_of,
)
def test_a_session_ends_once_and_keeps_its_reason(event: FamilyEvent) -> None:
    family = after(signed_in()[0], SessionEnded(reason=EndReason.LOGOUT))

    again = after(family, event, NOW + SECOND)

    assert again == changed(family)


def test_the_fold_keeps_as_many_late_retries_as_any_budget_counts() -> None:
    family, _ = signed_in()
    times = [NOW + number * MINUTE for number in range(MAX_LATE_RETRY_BUDGET + 2)]

    for at in times:
        family = after(family, RefreshRetried(generation=1, late=True), at)

    assert only_session(family).late_retries == tuple(times[2:])


@pytest.mark.parametrize(
    ("personal", "client", "device_name"),
    [
        (SEALED, SEALED, SEALED),
        (None, None, None),
        (Personal(client=PHONE), PHONE, None),
        (Personal(device_name="phone"), None, "phone"),
    ],
    ids=["sealed", "none", "client", "name"],
)
def test_a_personal_part_is_carried_along_unopened(
    personal: PersonalPart, client: ClientContext | Sealed | None, device_name: str | Sealed | None
) -> None:
    started = after(None, STARTED, personal=personal)
    rotated = after(signed_in()[0], ROTATED, personal=personal)
    renamed = after(signed_in(start_session(device_name="x"))[0], SessionRenamed(), NOW, personal)

    assert only_session(started).client == only_session(rotated).client == client
    assert only_session(started).device_name == only_session(renamed).device_name == device_name


def test_a_family_has_the_session_of_that_id() -> None:
    family = with_second_session(signed_in()[0])

    assert family.session(SESSION_ID) == family.sessions[0]
    assert family.session(OTHER_SESSION_ID) == family.sessions[1]
    assert family.session(SessionId(FAMILY_ID)) is None


def test_a_family_lives_while_one_of_its_sessions_does() -> None:
    family = with_second_session(signed_in()[0])

    one_left = after(family, SessionEnded(reason=EndReason.LOGOUT))
    none_left = after(one_left, SessionEnded(session=1, reason=EndReason.LOGOUT))

    assert family.is_live
    assert one_left.is_live
    assert not none_left.is_live


@pytest.mark.parametrize(
    "event",
    [
        ROTATED,
        RefreshRetried(generation=1),
        RefreshTokenUnrecognised(presented_generation=2, current_generation=1),
        EndedSessionRefreshRefused(presented_generation=1),
        SessionEnded(reason=EndReason.LOGOUT),
        SessionExpired(kind=ExpiryKind.IDLE),
        FamilyRevoked(reason=EndReason.STAFF),
        StepUpRequired(),
        StepUpCompleted(auth_methods=["pwd"]),
    ],
    ids=type_of,
)
def test_the_next_event_is_not_earlier_than_the_last(event: FamilyEvent) -> None:
    family, _ = signed_in()

    assert family.last_event_at() == NOW
    assert after(family, event, NOW + HOUR).last_event_at() == NOW + HOUR


def test_the_next_event_is_not_earlier_than_the_last_of_any_session() -> None:
    family = with_second_session(signed_in()[0])

    later = after(family, RefreshRetried(session=1, generation=1), NOW + HOUR)
    latest = after(later, SessionEnded(reason=EndReason.LOGOUT), NOW + 2 * HOUR)

    assert later.last_event_at() == NOW + HOUR
    assert latest.last_event_at() == NOW + 2 * HOUR


def test_decided_events_are_folded_in_order() -> None:
    decided = [
        NewEvent(STARTED, Personal(client=PHONE)),
        NewEvent(ROTATED, Personal(client=LAPTOP)),
        NewEvent(FamilyRevoked(reason=EndReason.STAFF)),
    ]

    family = fold_new(None, FAMILY_ID, decided, NOW)

    assert family.version == 3
    assert only_session(family).generation == 2
    assert only_session(family).client == LAPTOP
    assert only_session(family).end_reason == "staff"


def test_nothing_folded_into_nothing_is_impossible() -> None:
    with pytest.raises(ImpossibleEventError, match=f"^family {FAMILY_ID} has no events$"):
        fold_new(None, FAMILY_ID, [], NOW)


def test_nothing_folded_into_a_family_leaves_it() -> None:
    family, _ = signed_in()

    assert fold_new(family, FAMILY_ID, [], NOW + HOUR) == family
