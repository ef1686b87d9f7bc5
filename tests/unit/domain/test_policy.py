"""Session policies: the defaults of the design, and policies that cannot be kept."""

from dataclasses import replace
from datetime import timedelta

import pytest

from domain.policy import MAX_LATE_RETRY_BUDGET, SessionPolicy
from tests.unit.domain.builders import DAY, HOUR, MICROSECOND, MINUTE, SECOND

ZERO = timedelta(0)
LIFETIMES = [
    "access_lifetime",
    "idle_timeout",
    "shared_computer_idle_timeout",
    "absolute_lifetime",
    "late_retry_period",
]


def test_the_defaults_are_those_of_the_design() -> None:
    assert SessionPolicy() == SessionPolicy(
        access_lifetime=10 * MINUTE,
        idle_timeout=14 * DAY,
        shared_computer_idle_timeout=HOUR,
        absolute_lifetime=90 * DAY,
        overlap_window=10 * SECOND,
        late_retry_budget=2,
        late_retry_period=DAY,
        session_limit=100,
    )


@pytest.mark.parametrize("lifetime", [ZERO, -MICROSECOND, -DAY])
@pytest.mark.parametrize("name", LIFETIMES)
def test_a_lifetime_is_positive(name: str, lifetime: timedelta) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be positive$"):
        SessionPolicy(**{name: lifetime})  # type: ignore[arg-type] # the name is a parameter


@pytest.mark.parametrize("name", LIFETIMES)
def test_a_lifetime_may_be_a_second(name: str) -> None:
    policy = SessionPolicy(**{name: SECOND})  # type: ignore[arg-type] # the name is a parameter

    assert getattr(policy, name) == SECOND


def test_the_overlap_window_may_be_zero_and_not_negative() -> None:
    assert SessionPolicy(overlap_window=ZERO).overlap_window == ZERO

    with pytest.raises(ValueError, match=r"^overlap_window must not be negative$"):
        SessionPolicy(overlap_window=-MICROSECOND)


@pytest.mark.parametrize("budget", [-1, MAX_LATE_RETRY_BUDGET + 1])
def test_the_late_retry_budget_is_no_more_than_the_fold_remembers(budget: int) -> None:
    with pytest.raises(ValueError, match=r"^late_retry_budget must be between 0 and 8$"):
        SessionPolicy(late_retry_budget=budget)


@pytest.mark.parametrize("budget", [0, MAX_LATE_RETRY_BUDGET])
def test_the_late_retry_budget_reaches_from_none_to_all_that_the_fold_remembers(
    budget: int,
) -> None:
    assert SessionPolicy(late_retry_budget=budget).late_retry_budget == budget


def test_a_user_may_have_at_least_one_session() -> None:
    assert SessionPolicy(session_limit=1).session_limit == 1

    with pytest.raises(ValueError, match=r"^session_limit must be at least 1$"):
        SessionPolicy(session_limit=0)


def test_a_changed_policy_is_checked_too() -> None:
    with pytest.raises(ValueError, match=r"^idle_timeout must be positive$"):
        replace(SessionPolicy(), idle_timeout=ZERO)
