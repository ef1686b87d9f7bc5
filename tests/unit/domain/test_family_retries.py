"""Honest retries: the same successor again, within the window or from the budget after it."""

from datetime import timedelta

import pytest

from domain.events.families import (
    RefreshRetried,
    RefreshTokenRotated,
)
from domain.events.personal import Sealed
from domain.policy import MAX_LATE_RETRY_BUDGET, SessionPolicy
from domain.refresh_token import TokenKeys
from tests.unit.domain.builders import (
    DAY,
    HOUR,
    KEY_2,
    KEYED_LAPTOP,
    KEYED_LAPTOP_ELSEWHERE,
    LAPTOP,
    LAPTOP_UPDATED,
    MICROSECOND,
    MINUTE,
    NOW,
    OTHER_SALT,
    OTHER_SESSION_ID,
    PHONE,
    POLICY,
    ROTATED_KEYS,
    SECOND,
    answer_to,
    carried_out,
    changed,
    first_token,
    only_session,
    refresh,
    refreshed,
    signed_in,
    with_second_session,
)
from tests.unit.domain.expectations import (
    retry,
    reuse,
    revoked_for_reuse,
)

WINDOW = POLICY.overlap_window
LATE = 5 * MINUTE
STRICTEST = SessionPolicy(overlap_window=timedelta(0))
NO_LATE_RETRY = SessionPolicy(late_retry_budget=0)


def test_lost_response() -> None:
    family, first = signed_in()
    family, second = refreshed(family, refresh(first))

    decision, after = carried_out(family, refresh(first, salt=OTHER_SALT), NOW + 3 * SECOND)

    assert decision == retry(LAPTOP, generation=2)
    assert after == changed(
        family,
        last_seen_at=NOW + 3 * SECOND,
        idle_expires_at=NOW + 3 * SECOND + POLICY.idle_timeout,
    )
    assert answer_to(after, first) == second


def test_a_retry_at_the_end_of_the_window_is_not_late() -> None:
    family, first = signed_in()
    family, _ = refreshed(family, refresh(first))

    decision, after = carried_out(family, refresh(first), NOW + WINDOW)

    assert decision == retry(LAPTOP, generation=2)
    assert only_session(after).late_retries == ()


def test_a_retry_a_microsecond_after_the_window_is_late() -> None:
    family, first = signed_in()
    family, _ = refreshed(family, refresh(first))
    at = NOW + WINDOW + MICROSECOND

    decision, after = carried_out(family, refresh(first), at)

    assert decision == retry(LAPTOP, generation=2, late=True)
    assert only_session(after).late_retries == (at,)


def test_a_retry_within_the_window_costs_no_budget() -> None:
    family, first = signed_in()
    family, second = refreshed(family, refresh(first, policy=NO_LATE_RETRY))

    for _ in range(20):
        decision, family = carried_out(family, refresh(first, policy=NO_LATE_RETRY), NOW + WINDOW)

        assert decision == retry(LAPTOP, generation=2)
        assert answer_to(family, first) == second

    assert only_session(family).late_retries == ()


def test_a_retry_does_not_prolong_the_window() -> None:
    family, first = signed_in()
    family, _ = refreshed(family, refresh(first))
    family, _ = refreshed(family, refresh(first), NOW + WINDOW)

    decision, _ = carried_out(family, refresh(first), NOW + WINDOW + SECOND)

    assert decision == retry(LAPTOP, generation=2, late=True)


def test_lost_response_late() -> None:
    family, first = signed_in()
    family, second = refreshed(family, refresh(first))

    decision, after = carried_out(family, refresh(first, salt=OTHER_SALT), NOW + LATE)

    assert decision == retry(LAPTOP, generation=2, late=True)
    assert after == changed(
        family,
        last_seen_at=NOW + LATE,
        idle_expires_at=NOW + LATE + POLICY.idle_timeout,
        late_retries=(NOW + LATE,),
    )
    assert answer_to(after, first) == second


def test_lost_response_late_from_another_context_is_reuse() -> None:
    family, first = signed_in()
    family, _ = refreshed(family, refresh(first))

    decision, after = carried_out(family, refresh(first, client=PHONE), NOW + LATE)

    assert decision == reuse(PHONE, presented=1, current=2)
    assert after == revoked_for_reuse(family, NOW + LATE)


def test_lost_response_late_with_the_successor_used_is_reuse() -> None:
    family, first = signed_in()
    family, second = refreshed(family, refresh(first))
    family, _ = refreshed(family, refresh(second), NOW + SECOND)

    decision, after = carried_out(family, refresh(first), NOW + LATE)

    assert decision == reuse(LAPTOP, presented=1, current=3)
    assert after == revoked_for_reuse(family, NOW + LATE)


def test_the_budget_of_late_retries_comes_back_after_its_period() -> None:
    family, token = signed_in()
    family, _ = refreshed(family, refresh(token))
    times = [NOW + HOUR, NOW + 2 * HOUR]
    for at in times:
        decision, family = carried_out(family, refresh(token), at)
        assert decision == retry(LAPTOP, generation=2, late=True)

    too_soon, _ = carried_out(family, refresh(token), times[0] + DAY - MICROSECOND)
    decision, after = carried_out(family, refresh(token), times[0] + DAY)

    assert too_soon == reuse(LAPTOP, presented=1, current=2)
    assert decision == retry(LAPTOP, generation=2, late=True)
    assert only_session(after).late_retries == (*times, times[0] + DAY)


def test_the_budget_of_late_retries_is_kept_over_rotations() -> None:
    family, first = signed_in()
    family, second = refreshed(family, refresh(first))
    family, _ = refreshed(family, refresh(first), NOW + LATE)

    family, _ = refreshed(family, refresh(second), NOW + 2 * LATE)

    assert only_session(family).late_retries == (NOW + LATE,)


def test_the_largest_budget_is_kept_to_the_last_retry() -> None:
    """The fold forgets older retries; never one that still counts."""
    policy = SessionPolicy(late_retry_budget=MAX_LATE_RETRY_BUDGET)
    family, token = signed_in()
    family, _ = refreshed(family, refresh(token, policy=policy))
    for number in range(1, MAX_LATE_RETRY_BUDGET + 1):
        decision, family = carried_out(family, refresh(token, policy=policy), NOW + number * MINUTE)
        assert decision == retry(LAPTOP, generation=2, late=True)

    decision, after = carried_out(family, refresh(token, policy=policy), NOW + HOUR)

    assert decision == reuse(LAPTOP, presented=1, current=2)
    assert after == revoked_for_reuse(family, NOW + HOUR)


def test_retry_budget_zero() -> None:
    family, first = signed_in()
    family, _ = refreshed(family, refresh(first, policy=NO_LATE_RETRY))
    at = NOW + WINDOW + MICROSECOND

    decision, after = carried_out(family, refresh(first, policy=NO_LATE_RETRY), at)

    assert decision == reuse(LAPTOP, presented=1, current=2)
    assert after == revoked_for_reuse(family, at)


def test_window_zero() -> None:
    """Two tabs race and one loses, at the same instant or any later, whatever the late budget."""
    family, first = signed_in()
    family, _ = refreshed(family, refresh(first, policy=STRICTEST))

    for at in (NOW, NOW + MICROSECOND, NOW + LATE):
        decision, after = carried_out(family, refresh(first, policy=STRICTEST), at)

        assert decision == reuse(LAPTOP, presented=1, current=2)
        assert after == revoked_for_reuse(family, at)


def test_two_tabs() -> None:
    family, first = signed_in()
    decisions, answers = [], []

    for _ in range(50):
        decision, family = carried_out(family, refresh(first))
        decisions.append(decision)
        answers.append(answer_to(family, first))

    events = [new.event for decision in decisions for new in decision.events]
    assert [type(event) for event in events] == [RefreshTokenRotated] + [RefreshRetried] * 49
    assert decisions[1:] == [retry(LAPTOP, generation=2)] * 49
    assert {decision.refusal for decision in decisions} == {None}
    assert len({answer.secret for answer in answers}) == 1
    assert (only_session(family).generation, family.version) == (2, 51)


def test_a_retry_from_an_updated_browser_in_the_same_network_is_honest() -> None:
    family, first = signed_in()
    family, second = refreshed(family, refresh(first))

    decision, after = carried_out(family, refresh(first, client=LAPTOP_UPDATED))

    assert decision == retry(LAPTOP_UPDATED, generation=2)
    assert only_session(after).client == LAPTOP
    assert answer_to(after, first) == second


def test_a_retry_from_the_same_device_key_in_another_network_is_honest() -> None:
    family, first = signed_in()
    family, second = refreshed(family, refresh(first, client=KEYED_LAPTOP))

    decision, after = carried_out(family, refresh(first, client=KEYED_LAPTOP_ELSEWHERE))

    assert decision == retry(KEYED_LAPTOP_ELSEWHERE, generation=2)
    assert answer_to(after, first) == second


def test_a_retry_must_come_from_the_client_that_rotated_not_from_an_earlier_one() -> None:
    family, first = signed_in()
    family, _ = refreshed(family, refresh(first, client=PHONE))

    decision, after = carried_out(family, refresh(first, client=LAPTOP))

    assert decision == reuse(LAPTOP, presented=1, current=2)
    assert after == revoked_for_reuse(family, NOW)


def test_a_retry_is_answered_with_the_same_successor_after_the_token_key_rotated() -> None:
    family, first = signed_in()
    family, second = refreshed(family, refresh(first))

    decision, after = carried_out(family, refresh(first, keys=ROTATED_KEYS), NOW + SECOND)

    assert decision == retry(LAPTOP, generation=2)
    assert answer_to(after, first, keys=ROTATED_KEYS) == second


def test_a_retry_whose_successor_can_no_longer_be_derived_is_reuse() -> None:
    """The key of the rotation was removed, so the same successor cannot be given again."""
    family, first = signed_in()
    family, _ = refreshed(family, refresh(first))
    without_key_1 = TokenKeys(2, {2: KEY_2})

    decision, after = carried_out(family, refresh(first, keys=without_key_1))

    assert decision == reuse(LAPTOP, presented=1, current=2)
    assert after == revoked_for_reuse(family, NOW)


@pytest.mark.parametrize("client", [None, Sealed("event", b"box")], ids=["erased", "not opened"])
def test_a_retry_is_reuse_where_the_client_of_the_rotation_is_unknown(
    client: Sealed | None,
) -> None:
    family, first = signed_in()
    family, _ = refreshed(family, refresh(first))
    family = changed(family, events=0, client=client)

    decision, after = carried_out(family, refresh(first))

    assert decision == reuse(LAPTOP, presented=1, current=2)
    assert after == revoked_for_reuse(family, NOW)


def test_a_retry_touches_its_own_session_only() -> None:
    family, first = signed_in()
    family, _ = refreshed(family, refresh(first))
    family = with_second_session(family)

    presented = first_token(session_id=OTHER_SESSION_ID)
    decision, after = carried_out(family, refresh(presented), NOW + LATE)

    assert decision == retry(LAPTOP, generation=2, late=True, session=1)
    assert after == changed(
        family,
        ordinal=1,
        last_seen_at=NOW + LATE,
        idle_expires_at=NOW + LATE + POLICY.idle_timeout,
        late_retries=(NOW + LATE,),
    )
