"""How sessions begin and how long they live: sign-in, expiry, and clocks that step back."""

from datetime import datetime, timedelta

import pytest

from domain.events.envelope import EXPIRY, NewEvent
from domain.events.families import (
    EndReason,
    ExpiryKind,
    SessionExpired,
    SessionStarted,
    TokenDelivery,
)
from domain.events.personal import Personal
from domain.family import Family, Session
from domain.family_decisions import (
    Decision,
    EndSession,
    ExpireSessions,
    FamilyCommand,
    RenameSession,
    RevokeFamily,
    decide,
    expiry_of,
    is_usable,
)
from domain.policy import SessionPolicy
from domain.refresh_token import RefreshToken, hash_secret
from domain.refusals import Refusal
from tests.unit.domain.builders import (
    CLIENT_ID,
    DAY,
    FAMILY_ID,
    HOUR,
    LAPTOP,
    MICROSECOND,
    MINUTE,
    NOW,
    OTHER_SESSION_ID,
    PHONE,
    POLICY,
    SECOND,
    SECRET,
    SESSION_ID,
    USER_ID,
    carried_out,
    changed,
    first_token,
    forged,
    logged_out,
    only_session,
    refresh,
    refreshed,
    signed_in,
    start_session,
    with_second_session,
)
from tests.unit.domain.expectations import expired, refused_after_the_end

IDLE_END = NOW + POLICY.idle_timeout
ABSOLUTE_END = NOW + POLICY.absolute_lifetime
LOG_OUT = EndSession(SESSION_ID, EndReason.LOGOUT)
REVOKE = RevokeFamily(EndReason.STAFF)
EXPIRE = ExpireSessions()


# Sign-in


def test_a_sign_in_starts_the_family() -> None:
    command = start_session(device_name="Ada’s laptop")

    decision, family = carried_out(None, command)

    started = SessionStarted(
        session_id=SESSION_ID,
        user_id=USER_ID,
        client_id=CLIENT_ID,
        auth_methods=["pwd"],
        delivery=TokenDelivery.COOKIE,
        persistent=True,
        secret_hash=hash_secret(SECRET),
        token_key=1,
        idle_timeout_s=14 * 86_400,
        absolute_lifetime_s=90 * 86_400,
    )
    personal = Personal(client=LAPTOP, device_name="Ada’s laptop")
    assert decision == Decision((NewEvent(started, personal),))
    assert family == Family(
        family_id=FAMILY_ID,
        user_id=USER_ID,
        version=1,
        client_id=CLIENT_ID,
        auth_methods=("pwd",),
        signed_in_at=NOW,
        expires_at=ABSOLUTE_END,
        sessions=(
            Session(
                session_id=SESSION_ID,
                ordinal=0,
                delivery=TokenDelivery.COOKIE,
                persistent=True,
                generation=1,
                secret_hash=hash_secret(SECRET),
                token_key=1,
                started_at=NOW,
                rotated_at=NOW,
                last_seen_at=NOW,
                idle_timeout=timedelta(days=14),
                idle_expires_at=IDLE_END,
                client=LAPTOP,
                device_name="Ada’s laptop",
            ),
        ),
    )


def test_a_family_starts_once() -> None:
    family, _ = signed_in()

    decision, after = carried_out(family, start_session())

    assert decision == Decision(refusal=Refusal.NOTHING_TO_DO)
    assert after == family


@pytest.mark.parametrize(
    "command",
    [
        refresh(first_token()),
        LOG_OUT,
        REVOKE,
        EXPIRE,
        RenameSession(SESSION_ID, "phone"),
    ],
    ids=lambda command: type(command).__name__,
)
def test_a_family_without_events_is_unknown(command: FamilyCommand) -> None:
    assert decide(None, command, NOW) == Decision(refusal=Refusal.UNKNOWN_SESSION)


def test_remember_me_shared_computer() -> None:
    """Without "remember me": the short idle timeout, sliding, exact at the boundary."""
    family, first = signed_in(start_session(persistent=False))
    family, second = refreshed(family, refresh(first), NOW + 59 * MINUTE)
    end = NOW + 59 * MINUTE + HOUR

    before, _ = carried_out(family, refresh(second), end - MICROSECOND)
    decision, after = carried_out(family, refresh(second), end)

    assert not only_session(family).persistent
    assert only_session(family).idle_timeout == HOUR
    assert before.refusal is None
    assert decision == expired(ExpiryKind.IDLE, Refusal.SESSION_EXPIRED)
    assert after == changed(family, ended_at=end, end_reason="expired_idle")


def test_a_session_keeps_the_lifetimes_that_it_began_with() -> None:
    family, first = signed_in()
    stricter = SessionPolicy(idle_timeout=HOUR, absolute_lifetime=DAY)

    decision, after = carried_out(family, refresh(first, policy=stricter), NOW + 2 * DAY)

    assert decision.refusal is None
    assert only_session(after).idle_expires_at == NOW + 2 * DAY + POLICY.idle_timeout
    assert after.expires_at == ABSOLUTE_END


# Expiry


def test_idle_and_absolute() -> None:
    """The idle timeout slides with each refresh, the absolute lifetime does not; both are exact."""
    family, token = signed_in()
    while only_session(family).idle_expires_at < ABSOLUTE_END:
        end = only_session(family).idle_expires_at
        idle, ended = carried_out(family, refresh(token), end)
        assert idle == expired(ExpiryKind.IDLE, Refusal.SESSION_EXPIRED)
        assert ended == changed(family, ended_at=end, end_reason="expired_idle")
        family, token = refreshed(family, refresh(token), end - MICROSECOND)

    alive, _ = carried_out(family, refresh(token), ABSOLUTE_END - MICROSECOND)
    absolute, ended = carried_out(family, refresh(token), ABSOLUTE_END)

    assert alive.refusal is None
    assert absolute == expired(ExpiryKind.ABSOLUTE, Refusal.SESSION_EXPIRED)
    assert ended == changed(family, ended_at=ABSOLUTE_END, end_reason="expired_absolute")


def test_the_absolute_lifetime_is_named_where_both_have_run_out() -> None:
    family, first = signed_in()

    decision, after = carried_out(family, refresh(first), ABSOLUTE_END + DAY)

    assert decision == expired(ExpiryKind.ABSOLUTE, Refusal.SESSION_EXPIRED)
    assert only_session(after).end_reason == "expired_absolute"


def test_a_retry_slides_the_idle_timeout_too() -> None:
    family, first = signed_in()
    family, second = refreshed(family, refresh(first))
    family, _ = refreshed(family, refresh(first), NOW + DAY)
    end = NOW + DAY + POLICY.idle_timeout

    before, _ = carried_out(family, refresh(second), end - MICROSECOND)
    decision, _ = carried_out(family, refresh(second), end)

    assert before.refusal is None
    assert decision == expired(ExpiryKind.IDLE, Refusal.SESSION_EXPIRED)


def test_refusals_do_not_slide_the_idle_timeout() -> None:
    family, first = signed_in()
    _, family = carried_out(family, refresh(forged(7)), IDLE_END - SECOND)

    decision, _ = carried_out(family, refresh(first), IDLE_END)

    assert decision == expired(ExpiryKind.IDLE, Refusal.SESSION_EXPIRED)


@pytest.mark.parametrize("presented", [first_token(), forged(7)], ids=["past", "future"])
def test_a_past_or_unknown_token_of_a_session_out_of_time_expires_it(
    presented: RefreshToken,
) -> None:
    """The family is over either way; a reuse would end what has ended."""
    family, first = signed_in()
    family, _ = refreshed(family, refresh(first))

    decision, after = carried_out(family, refresh(presented, client=PHONE), IDLE_END)

    assert decision == expired(ExpiryKind.IDLE, Refusal.SESSION_EXPIRED)
    assert after == changed(family, ended_at=IDLE_END, end_reason="expired_idle")


def test_an_expired_session_is_ended_for_later_refreshes() -> None:
    family, first = signed_in()
    _, family = carried_out(family, EXPIRE, IDLE_END)

    decision, after = carried_out(family, refresh(first), IDLE_END + SECOND)

    assert decision == refused_after_the_end(LAPTOP, presented=1)
    assert after == changed(family, refusal_recorded_at=IDLE_END + SECOND)


@pytest.mark.parametrize(
    ("at", "kind"),
    [
        (NOW, None),
        (IDLE_END - MICROSECOND, None),
        (IDLE_END, ExpiryKind.IDLE),
        (ABSOLUTE_END - MICROSECOND, ExpiryKind.IDLE),
        (ABSOLUTE_END, ExpiryKind.ABSOLUTE),
    ],
)
def test_a_session_lives_up_to_and_not_at_its_expiry(at: datetime, kind: ExpiryKind | None) -> None:
    family, _ = signed_in()
    session = only_session(family)

    assert expiry_of(family, session, at) == kind
    assert is_usable(family, session, at) == (kind is None)


def test_an_ended_session_is_not_usable() -> None:
    family = logged_out(signed_in()[0])

    assert expiry_of(family, only_session(family), NOW) is None
    assert not is_usable(family, only_session(family), NOW)


def test_a_sweep_expires_what_is_due() -> None:
    family, _ = signed_in()

    early, unchanged = carried_out(family, EXPIRE, IDLE_END - MICROSECOND)
    decision, after = carried_out(family, EXPIRE, IDLE_END)

    assert early == Decision(refusal=Refusal.NOTHING_TO_DO)
    assert unchanged == family
    assert decision == expired(ExpiryKind.IDLE, None)
    assert after == changed(family, ended_at=IDLE_END, end_reason="expired_idle")


def test_a_sweep_expires_a_session_once() -> None:
    family, _ = signed_in()
    _, family = carried_out(family, EXPIRE, IDLE_END)

    decision, after = carried_out(family, EXPIRE, ABSOLUTE_END)

    assert decision == Decision(refusal=Refusal.NOTHING_TO_DO)
    assert after == family


def test_a_sweep_leaves_the_sessions_that_are_not_due() -> None:
    family = with_second_session(signed_in()[0], idle_expires_at=NOW + HOUR)

    decision, after = carried_out(family, EXPIRE, NOW + HOUR)

    assert decision == expired(ExpiryKind.IDLE, None, session=1)
    assert after == changed(family, ordinal=1, ended_at=NOW + HOUR, end_reason="expired_idle")
    assert after.is_live


def test_a_sweep_expires_every_session_that_is_due() -> None:
    family = with_second_session(signed_in()[0])

    decision, after = carried_out(family, EXPIRE, IDLE_END)

    assert decision.events == tuple(
        NewEvent(SessionExpired(session=ordinal, kind=ExpiryKind.IDLE), by=EXPIRY)
        for ordinal in (0, 1)
    )
    assert not after.is_live


def test_an_expiry_at_use_names_its_own_session() -> None:
    family = with_second_session(signed_in()[0], idle_expires_at=NOW + HOUR)

    presented = first_token(session_id=OTHER_SESSION_ID)
    decision, after = carried_out(family, refresh(presented), NOW + HOUR)

    assert decision == expired(ExpiryKind.IDLE, Refusal.SESSION_EXPIRED, session=1)
    assert after == changed(family, ordinal=1, ended_at=NOW + HOUR, end_reason="expired_idle")


# Clocks


def test_clock_backwards() -> None:
    """A clock that steps back by an hour revives nothing and gives nothing a negative lifetime."""
    family, first = signed_in()
    family, second = refreshed(family, refresh(first), NOW + 2 * HOUR)

    rotated, _ = refreshed(family, refresh(second), NOW + HOUR)
    retried, _ = refreshed(family, refresh(first), NOW + HOUR)
    decision, ended = carried_out(family, LOG_OUT, NOW + HOUR)

    for after in (rotated, retried):
        session = only_session(after)
        assert session.started_at <= session.rotated_at <= session.last_seen_at
        assert session.last_seen_at == NOW + 2 * HOUR
        assert session.idle_expires_at == NOW + 2 * HOUR + POLICY.idle_timeout
    assert only_session(retried).late_retries == ()
    assert decision.refusal is None
    assert only_session(ended).ended_at == NOW + 2 * HOUR


@pytest.mark.parametrize("clock", [NOW, NOW - DAY], ids=["before the expiry", "before sign-in"])
def test_clock_backwards_revives_no_expired_session(clock: datetime) -> None:
    family, first = signed_in()
    expiry, family = carried_out(family, refresh(first), IDLE_END)

    decision, after = carried_out(family, refresh(first), clock)

    assert expiry.refusal is Refusal.SESSION_EXPIRED
    assert decision == refused_after_the_end(LAPTOP, presented=1)
    assert after == changed(family, refusal_recorded_at=IDLE_END)


def test_clock_backwards_puts_no_further_refusals_on_record() -> None:
    family, first = signed_in()
    family = logged_out(family)
    _, family = carried_out(family, refresh(first), NOW + HOUR)

    decision, after = carried_out(family, refresh(first), NOW)
    unclamped = decide(family, refresh(first), NOW)

    assert decision == unclamped == Decision(refusal=Refusal.SESSION_ENDED)
    assert after == family
