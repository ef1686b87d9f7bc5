"""Refreshing: rotation, reuse, refusals on record. Some names are edge-cases.md's."""

import pytest

from domain.events.envelope import NewEvent
from domain.events.families import (
    EndedSessionRefreshRefused,
    RefreshTokenRotated,
    RefreshTokenUnrecognised,
)
from domain.events.personal import Personal
from domain.family_decisions import Decision
from domain.refresh_token import RefreshToken, hash_secret, successor_of
from domain.refusals import Refusal
from tests.unit.domain.builders import (
    HOUR,
    KEYED_LAPTOP,
    KEYED_THIEF,
    KEYS,
    LAPTOP,
    MICROSECOND,
    MINUTE,
    NOW,
    OTHER_FAMILY_ID,
    OTHER_SESSION_ID,
    PHONE,
    POLICY,
    ROTATED_KEYS,
    SALT,
    SECOND,
    answer_to,
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
    with_generation,
    with_second_session,
)
from tests.unit.domain.expectations import (
    refused_after_the_end,
    retry,
    reuse,
    revoked_for_reuse,
    unrecognised,
)

LATE = 5 * MINUTE


# Rotation


def test_the_current_token_is_replaced() -> None:
    family, first = signed_in()
    second = successor_of(first, salt=SALT, key_id=1, keys=KEYS)

    decision, after = carried_out(family, refresh(first), NOW + HOUR)

    rotated = RefreshTokenRotated(
        generation=2, secret_hash=hash_secret(second.secret), salt=SALT, token_key=1
    )
    assert decision == Decision((NewEvent(rotated, Personal(client=LAPTOP)),))
    assert after == changed(
        family,
        generation=2,
        secret_hash=hash_secret(second.secret),
        previous_hash=hash_secret(first.secret),
        salt=SALT,
        rotated_at=NOW + HOUR,
        last_seen_at=NOW + HOUR,
        idle_expires_at=NOW + HOUR + POLICY.idle_timeout,
    )
    assert answer_to(after, first) == second


def test_each_rotation_is_followed_by_the_next() -> None:
    family, token = signed_in()

    for generation in range(2, 12):
        family, token = refreshed(family, refresh(token), NOW + generation * SECOND)

        assert token.generation == only_session(family).generation == generation

    assert family.version == 11


def test_a_rotation_from_another_network_and_browser_is_no_reuse() -> None:
    """The current token is the proof; the detector judges the move."""
    family, first = signed_in()

    decision, after = carried_out(family, refresh(first, client=PHONE))

    assert decision.refusal is None
    assert [new.personal for new in decision.events] == [Personal(client=PHONE)]
    assert only_session(after).client == PHONE


def test_a_rotation_uses_the_current_token_key() -> None:
    family, first = signed_in()

    decision, after = carried_out(family, refresh(first, keys=ROTATED_KEYS))

    second = successor_of(first, salt=SALT, key_id=2, keys=ROTATED_KEYS)
    assert decision.refusal is None
    assert only_session(after).token_key == 2
    assert answer_to(after, first, keys=ROTATED_KEYS) == second
    assert only_session(after).secret_hash == hash_secret(second.secret)


def test_a_rotation_touches_its_own_session_only() -> None:
    family = with_second_session(signed_in()[0])

    decision, after = carried_out(family, refresh(first_token(session_id=OTHER_SESSION_ID)))

    (rotated,) = (new.event for new in decision.events)
    assert isinstance(rotated, RefreshTokenRotated)
    assert rotated.session == 1
    assert decision.refusal is None
    assert after.sessions[0] == family.sessions[0]
    assert after.sessions[1].generation == 2


# Reuse


def test_two_holders_race() -> None:
    family, first = signed_in()
    family, _ = refreshed(family, refresh(first, client=PHONE))

    decision, after = carried_out(family, refresh(first), NOW + SECOND)

    assert decision == reuse(LAPTOP, presented=1, current=2)
    assert after == revoked_for_reuse(family, NOW + SECOND)


def test_lockstep_thief() -> None:
    """Same address and browser, but not the same device key: the first mismatch is the last."""
    family, first = signed_in(start_session(client=KEYED_LAPTOP))
    family, _ = refreshed(family, refresh(first, client=KEYED_LAPTOP))

    decision, after = carried_out(family, refresh(first, client=KEYED_THIEF), NOW + SECOND)

    assert decision == reuse(KEYED_THIEF, presented=1, current=2)
    assert after == revoked_for_reuse(family, NOW + SECOND)


def test_lockstep_thief_without_any_device_key() -> None:
    family, first = signed_in(start_session(client=KEYED_LAPTOP))
    family, _ = refreshed(family, refresh(first, client=KEYED_LAPTOP))

    decision, after = carried_out(family, refresh(first, client=LAPTOP), NOW + SECOND)

    assert decision == reuse(LAPTOP, presented=1, current=2)
    assert after == revoked_for_reuse(family, NOW + SECOND)


def test_lockstep_thief_late() -> None:
    """Seemingly the same context: the budget gives out, and the third late retry is reuse."""
    family, token = signed_in()
    at = NOW
    for generation in (2, 3):
        family, successor = refreshed(family, refresh(token), at)
        at += LATE
        thief, family = carried_out(family, refresh(token), at)
        assert thief == retry(LAPTOP, generation=generation, late=True)
        token = successor
        at += LATE
    family, _ = refreshed(family, refresh(token), at)

    decision, after = carried_out(family, refresh(token), at + LATE)

    assert decision == reuse(LAPTOP, presented=3, current=4)
    assert after == revoked_for_reuse(family, at + LATE)


def test_grandparent() -> None:
    family, first = signed_in()
    family, second = refreshed(family, refresh(first))
    family, _ = refreshed(family, refresh(second))

    decision, after = carried_out(family, refresh(first))

    assert decision == reuse(LAPTOP, presented=1, current=3)
    assert after == revoked_for_reuse(family, NOW)


def test_the_predecessors_generation_with_another_secret_is_reuse() -> None:
    family, first = signed_in()
    family, _ = refreshed(family, refresh(first))

    decision, after = carried_out(family, refresh(forged(1)))

    assert decision == reuse(LAPTOP, presented=1, current=2)
    assert after == revoked_for_reuse(family, NOW)


def test_a_generation_before_the_first_is_reuse() -> None:
    """No such token is ever minted; whoever signs one holds the token key."""
    family, _ = signed_in()

    decision, after = carried_out(family, refresh(forged(0)))

    assert decision == reuse(LAPTOP, presented=0, current=1)
    assert after == revoked_for_reuse(family, NOW)


def test_an_older_token_with_the_predecessors_secret_is_reuse() -> None:
    family, first = signed_in()
    family, second = refreshed(family, refresh(first))
    family, _ = refreshed(family, refresh(second))

    decision, after = carried_out(family, refresh(with_generation(second, 1)))

    assert decision == reuse(LAPTOP, presented=1, current=3)
    assert after == revoked_for_reuse(family, NOW)


def test_only_this_family() -> None:
    theirs, stolen = signed_in()
    theirs, _ = refreshed(theirs, refresh(stolen, client=PHONE))
    own_first = first_token(family_id=OTHER_FAMILY_ID, session_id=OTHER_SESSION_ID)
    own, _ = signed_in(start_session(session_id=OTHER_SESSION_ID), family_id=OTHER_FAMILY_ID)

    decision, ended = carried_out(theirs, refresh(stolen))
    unaffected, after = carried_out(own, refresh(own_first), family_id=OTHER_FAMILY_ID)

    assert decision == reuse(LAPTOP, presented=1, current=2)
    assert not ended.is_live
    assert unaffected.refusal is None
    assert after.is_live
    assert only_session(after).generation == 2


def test_a_reuse_in_one_session_ends_every_session_of_the_family() -> None:
    family, first = signed_in()
    family = with_second_session(refreshed(family, refresh(first, client=PHONE))[0])

    decision, after = carried_out(
        family, refresh(first_token(session_id=OTHER_SESSION_ID)), NOW + SECOND
    )

    assert decision == reuse(LAPTOP, presented=1, current=2, session=1)
    assert [session.ended_at for session in after.sessions] == [NOW + SECOND] * 2
    assert [session.end_reason for session in after.sessions] == ["token_reuse"] * 2


def test_a_token_of_another_family_is_unknown() -> None:
    family, _ = signed_in()

    decision, after = carried_out(family, refresh(first_token(session_id=OTHER_SESSION_ID)))

    assert decision == Decision(refusal=Refusal.UNKNOWN_SESSION)
    assert after == family


# Tokens that this history never issued


def test_future_generation() -> None:
    family, _ = signed_in()

    decision, after = carried_out(family, refresh(forged(7)), NOW + SECOND)

    assert decision == unrecognised(LAPTOP, presented=7, current=1)
    assert after == changed(family, refusal_recorded_at=NOW + SECOND)
    assert after.is_live


def test_the_current_generation_with_another_secret_is_unrecognised() -> None:
    """The database was restored and the session rotated anew."""
    family, _ = signed_in()

    decision, after = carried_out(family, refresh(forged(1)))

    assert decision == unrecognised(LAPTOP, presented=1, current=1)
    assert after == changed(family, refusal_recorded_at=NOW)


def test_the_current_secret_under_a_later_generation_is_unrecognised() -> None:
    family, first = signed_in()

    decision, after = carried_out(family, refresh(with_generation(first, 2)))

    assert decision == unrecognised(LAPTOP, presented=2, current=1)
    assert after == changed(family, refusal_recorded_at=NOW)


def test_the_honest_client_goes_on_after_an_unrecognised_token() -> None:
    family, first = signed_in()
    _, family = carried_out(family, refresh(forged(7), client=PHONE))

    decision, after = carried_out(family, refresh(first))

    assert decision.refusal is None
    assert only_session(after).generation == 2


# Refusals on record, at most once a minute


def test_unrecognised_tokens_go_on_record_at_most_once_a_minute() -> None:
    family, _ = signed_in()
    _, family = carried_out(family, refresh(forged(7)))

    within, unchanged = carried_out(family, refresh(forged(8)), NOW + MINUTE - MICROSECOND)
    decision, after = carried_out(family, refresh(forged(9)), NOW + MINUTE)

    assert within == Decision(refusal=Refusal.TOKEN_UNRECOGNISED)
    assert unchanged == family
    assert decision == unrecognised(LAPTOP, presented=9, current=1)
    assert after == changed(family, refusal_recorded_at=NOW + MINUTE)


def test_reuse_after_logout() -> None:
    family, first = signed_in()
    family, _ = refreshed(family, refresh(first))
    family = logged_out(family, NOW + SECOND)

    decision, after = carried_out(family, refresh(first, client=PHONE), NOW + 2 * SECOND)

    assert decision == refused_after_the_end(PHONE, presented=1)
    assert after == changed(family, refusal_recorded_at=NOW + 2 * SECOND)
    assert only_session(after).end_reason == "logout"


def test_the_current_token_after_logout() -> None:
    family, first = signed_in()
    family = logged_out(family)

    decision, after = carried_out(family, refresh(first))

    assert decision == refused_after_the_end(LAPTOP, presented=1)
    assert after == changed(family, refusal_recorded_at=NOW)


def test_refreshes_after_logout_go_on_record_at_most_once_a_minute() -> None:
    family, first = signed_in()
    family = logged_out(family)
    _, family = carried_out(family, refresh(first))

    within, unchanged = carried_out(family, refresh(first), NOW + MINUTE - MICROSECOND)
    decision, after = carried_out(family, refresh(first, client=PHONE), NOW + MINUTE)

    assert within == Decision(refusal=Refusal.SESSION_ENDED)
    assert unchanged == family
    assert decision == refused_after_the_end(PHONE, presented=1)
    assert after == changed(family, refusal_recorded_at=NOW + MINUTE)


def test_a_refusal_names_its_own_session() -> None:
    family = with_second_session(signed_in()[0])
    ended = with_second_session(signed_in()[0], ended_at=NOW, end_reason="logout")
    stranger = RefreshToken(1, family.family_id, OTHER_SESSION_ID, 9, bytes(32))

    unknown, after = carried_out(family, refresh(stranger))
    refused, after_end = carried_out(ended, refresh(stranger))

    assert unknown.events[0].event == RefreshTokenUnrecognised(
        session=1, presented_generation=9, current_generation=1
    )
    assert refused.events[0].event == EndedSessionRefreshRefused(session=1, presented_generation=9)
    assert after.sessions[1].refusal_recorded_at == after_end.sessions[1].refusal_recorded_at == NOW
    assert after.sessions[0] == after_end.sessions[0] == family.sessions[0]


# The OAuth client


@pytest.mark.parametrize("client_id", [None, "web"], ids=["not said", "its own"])
def test_a_token_is_good_for_its_own_client(client_id: str | None) -> None:
    family, first = signed_in(start_session(client_id="web"))

    decision, after = carried_out(family, refresh(first, client_id=client_id))

    assert decision.refusal is None
    assert only_session(after).generation == 2


@pytest.mark.parametrize("client_id", ["", "Web", "ios"])
def test_a_token_of_another_client_is_refused_and_nothing_happens(client_id: str) -> None:
    family, first = signed_in(start_session(client_id="web"))
    rotated, _ = refreshed(family, refresh(first))

    for state in (family, rotated, logged_out(family)):
        decision, after = carried_out(state, refresh(first, client_id=client_id), NOW + SECOND)

        assert decision == Decision(refusal=Refusal.WRONG_CLIENT)
        assert after == state
