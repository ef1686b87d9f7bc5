"""Sessions ended on purpose, by sign-out or revocation; and what a device is called."""

import pytest

from domain.events.envelope import NewEvent
from domain.events.families import (
    EndReason,
    ExpiryKind,
    FamilyRevoked,
    SessionEnded,
    SessionRenamed,
)
from domain.events.personal import Personal
from domain.family_decisions import (
    Decision,
    EndSession,
    RenameSession,
    RevokeFamily,
)
from domain.refusals import Refusal
from tests.unit.domain.builders import (
    HOUR,
    MICROSECOND,
    NOW,
    OTHER_SESSION_ID,
    POLICY,
    SECOND,
    SESSION_ID,
    carried_out,
    changed,
    logged_out,
    revoked,
    signed_in,
    start_session,
    with_second_session,
)
from tests.unit.domain.expectations import expired

IDLE_END = NOW + POLICY.idle_timeout
LOG_OUT = EndSession(SESSION_ID, EndReason.LOGOUT)
REVOKE = RevokeFamily(EndReason.STAFF)


# Sign-out


def test_a_logout_ends_the_session() -> None:
    family, _ = signed_in()

    decision, after = carried_out(family, LOG_OUT, NOW + SECOND)

    assert decision == Decision((NewEvent(SessionEnded(reason=EndReason.LOGOUT)),))
    assert after == changed(family, ended_at=NOW + SECOND, end_reason="logout")


def test_logout_is_idempotent() -> None:
    family = logged_out(signed_in()[0])

    decision, after = carried_out(family, LOG_OUT, NOW + SECOND)

    assert decision == Decision(refusal=Refusal.SESSION_ENDED)
    assert after == family


def test_a_logout_of_a_session_that_the_family_does_not_have_is_refused() -> None:
    family, _ = signed_in()

    decision, after = carried_out(family, EndSession(OTHER_SESSION_ID, EndReason.LOGOUT))

    assert decision == Decision(refusal=Refusal.UNKNOWN_SESSION)
    assert after == family


def test_a_logout_after_expiry_puts_the_expiry_on_record() -> None:
    family, _ = signed_in()

    before, _ = carried_out(family, LOG_OUT, IDLE_END - MICROSECOND)
    decision, after = carried_out(family, LOG_OUT, IDLE_END)

    assert before == Decision((NewEvent(SessionEnded(reason=EndReason.LOGOUT)),))
    assert decision == expired(ExpiryKind.IDLE, Refusal.SESSION_EXPIRED)
    assert after == changed(family, ended_at=IDLE_END, end_reason="expired_idle")


def test_a_logout_ends_the_named_session_only() -> None:
    family = with_second_session(signed_in()[0])

    decision, after = carried_out(family, EndSession(OTHER_SESSION_ID, EndReason.TOKEN_REVOKED))

    assert decision == Decision(
        (NewEvent(SessionEnded(session=1, reason=EndReason.TOKEN_REVOKED)),)
    )
    assert after == changed(family, ordinal=1, ended_at=NOW, end_reason="token_revoked")


# Revocation


@pytest.mark.parametrize("reason", EndReason)
def test_a_revocation_ends_the_family_and_says_why(reason: EndReason) -> None:
    family, _ = signed_in()

    decision, after = carried_out(family, RevokeFamily(reason), NOW + SECOND)

    assert decision == Decision((NewEvent(FamilyRevoked(reason=reason)),))
    assert after == changed(family, ended_at=NOW + SECOND, end_reason=reason.value)


def test_a_revocation_ends_every_session_that_lives_and_no_other() -> None:
    family = with_second_session(signed_in()[0], ended_at=NOW, end_reason="logout")

    decision, after = carried_out(family, REVOKE, NOW + SECOND)

    assert decision == Decision((NewEvent(FamilyRevoked(reason=EndReason.STAFF)),))
    assert after == changed(family, ended_at=NOW + SECOND, end_reason="staff")


def test_a_revocation_happens_once() -> None:
    family = revoked(signed_in()[0])

    decision, after = carried_out(family, RevokeFamily(EndReason.LOGOUT_ALL), NOW + SECOND)

    assert decision == Decision(refusal=Refusal.SESSION_ENDED)
    assert after == family


def test_a_revocation_after_expiry_puts_the_expiry_on_record() -> None:
    family, _ = signed_in()

    before, _ = carried_out(family, REVOKE, IDLE_END - MICROSECOND)
    decision, after = carried_out(family, REVOKE, IDLE_END)

    assert before == Decision((NewEvent(FamilyRevoked(reason=EndReason.STAFF)),))
    assert decision == expired(ExpiryKind.IDLE, Refusal.SESSION_EXPIRED)
    assert after == changed(family, ended_at=IDLE_END, end_reason="expired_idle")


def test_a_revocation_after_the_last_living_session_expired_puts_the_expiry_on_record() -> None:
    family = with_second_session(signed_in()[0], ended_at=NOW, end_reason="logout")

    decision, after = carried_out(family, REVOKE, IDLE_END)

    assert decision == expired(ExpiryKind.IDLE, Refusal.SESSION_EXPIRED)
    assert after == changed(family, ended_at=IDLE_END, end_reason="expired_idle")


def test_a_revocation_ends_the_family_where_one_session_has_time_left() -> None:
    family = with_second_session(signed_in()[0], idle_expires_at=NOW + HOUR)

    decision, after = carried_out(family, REVOKE, NOW + HOUR)

    assert decision == Decision((NewEvent(FamilyRevoked(reason=EndReason.STAFF)),))
    assert [session.end_reason for session in after.sessions] == ["staff", "staff"]


# Names


def test_a_device_is_named() -> None:
    family, _ = signed_in(start_session(device_name="old"))

    decision, after = carried_out(family, RenameSession(SESSION_ID, "📱 هاتف"), NOW + SECOND)

    assert decision == Decision((NewEvent(SessionRenamed(), Personal(device_name="📱 هاتف")),))
    assert after == changed(family, device_name="📱 هاتف")


def test_the_same_name_again_changes_nothing() -> None:
    family, _ = signed_in(start_session(device_name="phone"))

    decision, after = carried_out(family, RenameSession(SESSION_ID, "phone"))

    assert decision == Decision()
    assert after == family


def test_a_name_is_given_to_the_named_session_only() -> None:
    family = with_second_session(signed_in()[0])

    decision, after = carried_out(family, RenameSession(OTHER_SESSION_ID, "tablet"))

    assert decision == Decision(
        (NewEvent(SessionRenamed(session=1), Personal(device_name="tablet")),)
    )
    assert after == changed(family, ordinal=1, device_name="tablet")


def test_a_session_that_the_family_does_not_have_gets_no_name() -> None:
    family, _ = signed_in()

    decision, after = carried_out(family, RenameSession(OTHER_SESSION_ID, "tablet"))

    assert decision == Decision(refusal=Refusal.UNKNOWN_SESSION)
    assert after == family


def test_a_session_that_is_over_gets_no_name() -> None:
    family, _ = signed_in()
    rename = RenameSession(SESSION_ID, "tablet")

    before, _ = carried_out(family, rename, IDLE_END - MICROSECOND)
    late, unchanged = carried_out(family, rename, IDLE_END)
    ended, after = carried_out(logged_out(family), rename)

    assert before.refusal is None
    assert late == ended == Decision(refusal=Refusal.SESSION_ENDED)
    assert (unchanged, after) == (family, logged_out(family))
