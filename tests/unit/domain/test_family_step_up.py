"""Step-up: nothing is refreshed until the user has proved themself again, and no token is lost."""

from datetime import datetime

import pytest
from msgspec.structs import replace

from domain.client import ClientContext
from domain.events.envelope import NewEvent
from domain.events.families import (
    EndReason,
    ExpiryKind,
    RefreshTokenRotated,
    StepUpCompleted,
    StepUpRequired,
)
from domain.events.personal import Personal
from domain.family import Family
from domain.family_decisions import (
    CheckToken,
    CompleteStepUp,
    Decision,
    EndSession,
    FamilyCommand,
    Reauthenticate,
    Refresh,
    RequireStepUp,
    RevokeFamily,
    decide,
)
from domain.policy import SessionPolicy
from domain.refresh_token import RefreshToken
from domain.refusals import Refusal
from tests.unit.domain.builders import (
    FAMILY_ID,
    LAPTOP,
    MICROSECOND,
    MINUTE,
    NOW,
    OTHER_SALT,
    OTHER_SESSION_ID,
    PHONE,
    POLICY,
    SECOND,
    SESSION_ID,
    answer_to,
    carried_out,
    changed,
    forged,
    logged_out,
    only_session,
    refresh,
    refreshed,
    revoked,
    signed_in,
    start_session,
    under_step_up,
    with_second_session,
)
from tests.unit.domain.expectations import (
    expired,
    refused_after_the_end,
    retry,
    reuse,
    revoked_for_reuse,
    unrecognised,
)

IDLE_END = NOW + POLICY.idle_timeout
REFUSED = Decision(refusal=Refusal.STEP_UP_REQUIRED)
COMPLETE = CompleteStepUp(SESSION_ID, ["pwd", "otp"], PHONE)


def completed(client: ClientContext, *auth_methods: str, session: int = 0) -> NewEvent:
    """What goes on record of a user who proved themself again."""
    event = StepUpCompleted(session=session, auth_methods=list(auth_methods))
    return NewEvent(event, Personal(client=client))


def waiting() -> tuple[Family, RefreshToken, RefreshToken]:
    """A family under step-up that rotated once: with its current token and the one before."""
    family, first = signed_in()
    family, current = refreshed(family, refresh(first))
    return under_step_up(family), current, first


# To require it


def test_a_step_up_is_required_of_the_whole_family() -> None:
    family = with_second_session(signed_in()[0])

    decision, after = carried_out(family, RequireStepUp(), NOW + SECOND)

    assert decision == Decision((NewEvent(StepUpRequired()),))
    assert after == replace(family, version=family.version + 1, step_up_required_at=NOW + SECOND)


def test_a_step_up_that_is_pending_is_not_required_again() -> None:
    family = under_step_up(signed_in()[0])

    decision, after = carried_out(family, RequireStepUp(), NOW + SECOND)

    assert decision == Decision(refusal=Refusal.NOTHING_TO_DO)
    assert after == family


def test_a_step_up_is_required_again_after_it_was_completed() -> None:
    _, family = carried_out(under_step_up(signed_in()[0]), COMPLETE, NOW + SECOND)

    again = under_step_up(family, NOW + MINUTE)

    assert again.step_up_required_at == NOW + MINUTE


@pytest.mark.parametrize("pending", [False, True])
def test_no_step_up_is_required_of_a_family_that_is_over(pending: bool) -> None:
    family = signed_in()[0]
    family = revoked(under_step_up(family) if pending else family)

    decision, after = carried_out(family, RequireStepUp(), NOW + SECOND)

    assert decision == Decision(refusal=Refusal.SESSION_ENDED)
    assert after == family


@pytest.mark.parametrize("pending", [False, True])
def test_a_step_up_required_after_expiry_puts_the_expiry_on_record(
    pending: bool,
) -> None:
    family = signed_in()[0]
    family = under_step_up(family) if pending else family

    decision, _ = carried_out(family, RequireStepUp(), IDLE_END)

    assert decision == expired(ExpiryKind.IDLE, Refusal.SESSION_EXPIRED)


def test_a_step_up_is_required_where_one_session_has_time_left() -> None:
    family = with_second_session(signed_in()[0], idle_expires_at=IDLE_END + MICROSECOND)

    decision, _ = carried_out(family, RequireStepUp(), IDLE_END)

    assert decision == Decision((NewEvent(StepUpRequired()),))


# Refreshing while it is pending


def test_the_current_token_is_refused_and_not_used_up() -> None:
    family, current, _ = waiting()

    decision, after = carried_out(family, refresh(current), NOW + SECOND)

    assert decision == REFUSED
    assert after == family


def test_the_same_token_is_exchanged_once_the_user_has_proved_themself() -> None:
    family, current, _ = waiting()
    _, proven = carried_out(family, COMPLETE, NOW + MINUTE)

    after, _ = refreshed(proven, refresh(current), NOW + MINUTE)

    assert only_session(after).generation == 3


@pytest.mark.parametrize("at", [NOW + SECOND, NOW + MINUTE], ids=["in the window", "late"])
def test_a_retry_is_refused_and_costs_nothing(at: datetime) -> None:
    family, _, previous = waiting()

    decision, after = carried_out(family, refresh(previous), at)

    assert decision == REFUSED
    assert after == family


def test_a_stolen_current_token_is_as_useless_as_its_owners() -> None:
    family, current, _ = waiting()

    decision, _ = carried_out(family, refresh(current, client=PHONE), NOW + SECOND)

    assert decision == REFUSED


def test_a_reuse_revokes_the_family_whether_or_not_a_step_up_is_pending() -> None:
    family, _, previous = waiting()

    decision, after = carried_out(family, refresh(previous, client=PHONE), NOW + SECOND)

    assert decision == reuse(PHONE, presented=1, current=2)
    assert after == revoked_for_reuse(family, NOW + SECOND)


def test_a_retry_out_of_budget_revokes_the_family_whether_or_not_a_step_up_is_pending() -> None:
    family, _, previous = waiting()
    strict = refresh(previous, policy=SessionPolicy(late_retry_budget=0))

    decision, _ = carried_out(family, strict, NOW + MINUTE)

    assert decision == reuse(LAPTOP, presented=1, current=2)


def test_what_is_refused_without_a_step_up_is_refused_alike_with_one() -> None:
    family, current, _ = waiting()

    of_another_client = decide(family, refresh(current, client_id="other"), NOW)
    of_the_future = decide(family, refresh(forged(7)), NOW)
    too_late = decide(family, refresh(current), IDLE_END)
    after_the_end = decide(revoked(family), refresh(current), NOW)

    assert of_another_client == Decision(refusal=Refusal.WRONG_CLIENT)
    assert of_the_future == unrecognised(LAPTOP, presented=7, current=2)
    assert too_late == expired(ExpiryKind.IDLE, Refusal.SESSION_EXPIRED)
    assert after_the_end == refused_after_the_end(LAPTOP, presented=2)


@pytest.mark.parametrize(
    "command", [EndSession(SESSION_ID, EndReason.LOGOUT), RevokeFamily(EndReason.STAFF)], ids=repr
)
def test_a_family_ends_whether_or_not_a_step_up_is_pending(command: FamilyCommand) -> None:
    family, _, _ = waiting()

    decision, after = carried_out(family, command, NOW + SECOND)

    assert decision.refusal is None
    assert not after.is_live


# To complete it, for a backend


def test_completing_it_renews_when_and_how_the_user_proved_themself() -> None:
    family, _, _ = waiting()

    decision, after = carried_out(family, COMPLETE, NOW + MINUTE)

    assert decision == Decision((completed(PHONE, "pwd", "otp"),))
    assert after == replace(
        family,
        version=family.version + 1,
        auth_methods=("pwd", "otp"),
        signed_in_at=NOW + MINUTE,
        step_up_required_at=None,
    )


def test_a_user_proves_themself_again_where_nobody_asked_for_it() -> None:
    family, _ = signed_in()

    decision, after = carried_out(family, COMPLETE, NOW + MINUTE)

    assert decision == Decision((completed(PHONE, "pwd", "otp"),))
    assert after.signed_in_at == NOW + MINUTE


def test_a_session_that_the_family_does_not_have_completes_nothing() -> None:
    family = under_step_up(signed_in()[0])
    command = CompleteStepUp(OTHER_SESSION_ID, ["pwd"], LAPTOP)

    decision, after = carried_out(family, command, NOW + SECOND)

    assert decision == Decision(refusal=Refusal.UNKNOWN_SESSION)
    assert after == family


def test_a_session_that_is_over_completes_nothing() -> None:
    family = under_step_up(signed_in()[0])

    ended = decide(logged_out(family), COMPLETE, NOW + SECOND)
    out_of_time = decide(family, COMPLETE, IDLE_END)

    assert ended == Decision(refusal=Refusal.SESSION_ENDED)
    assert out_of_time == expired(ExpiryKind.IDLE, Refusal.SESSION_EXPIRED)


def test_it_is_completed_in_the_named_session_for_all() -> None:
    family = under_step_up(with_second_session(signed_in()[0]))

    decision, after = carried_out(family, CompleteStepUp(OTHER_SESSION_ID, ["hwk"], LAPTOP))

    assert decision == Decision((completed(LAPTOP, "hwk", session=1),))
    assert after.step_up_required_at is None


# To check a token before the user proves themself


@pytest.mark.parametrize("pending", [True, False])
def test_a_token_that_would_be_exchanged_passes_and_is_not_used_up(
    pending: bool,
) -> None:
    family, first = signed_in()
    family, current = refreshed(family, refresh(first))
    family = under_step_up(family) if pending else family

    of_the_current, after = carried_out(family, CheckToken(refresh(current)), NOW + SECOND)
    of_the_previous, after_both = carried_out(after, CheckToken(refresh(first)), NOW + SECOND)

    assert of_the_current == of_the_previous == Decision()
    assert after_both == family


def test_a_reuse_does_not_wait_for_the_password() -> None:
    family, _, previous = waiting()

    decision, after = carried_out(family, CheckToken(refresh(previous, client=PHONE)), NOW + SECOND)

    assert decision == reuse(PHONE, presented=1, current=2)
    assert after == revoked_for_reuse(family, NOW + SECOND)


def test_what_a_refresh_is_refused_for_a_check_is_too() -> None:
    family, current, _ = waiting()

    of_the_future = decide(family, CheckToken(refresh(forged(7))), NOW)
    too_late = decide(family, CheckToken(refresh(current)), IDLE_END)
    after_the_end = decide(revoked(family), CheckToken(refresh(current)), NOW)

    assert of_the_future == unrecognised(LAPTOP, presented=7, current=2)
    assert too_late == expired(ExpiryKind.IDLE, Refusal.SESSION_EXPIRED)
    assert after_the_end == refused_after_the_end(LAPTOP, presented=2)


# To re-authenticate: the proof and the refresh in one


def reauthenticate(command: Refresh) -> Reauthenticate:
    return Reauthenticate(command, ["pwd"])


@pytest.mark.parametrize("pending", [True, False])
def test_the_proof_and_the_exchange_go_on_record_together(pending: bool) -> None:
    family, token = signed_in(start_session())
    family = under_step_up(family) if pending else family
    command = refresh(token, client=PHONE)

    decision, after = carried_out(family, reauthenticate(command), NOW + MINUTE)

    proof, exchange = decision.events
    assert decision.refusal is None
    assert proof == completed(PHONE, "pwd")
    assert isinstance(exchange.event, RefreshTokenRotated)
    assert exchange.personal == Personal(client=PHONE)
    assert (after.signed_in_at, after.step_up_required_at) == (NOW + MINUTE, None)
    assert only_session(after).generation == 2


def test_an_owner_whose_answer_was_lost_proves_themself_again_and_gets_the_same_token() -> None:
    family, current, _ = waiting()
    command = reauthenticate(refresh(current))
    _, family = carried_out(family, command, NOW + SECOND)
    answer = answer_to(family, current)

    decision, after = carried_out(
        family, reauthenticate(refresh(current, salt=OTHER_SALT)), NOW + 2 * SECOND
    )

    assert decision == Decision((completed(LAPTOP, "pwd"), *retry(LAPTOP, generation=3).events))
    assert answer_to(after, current) == answer


def test_a_thief_with_the_same_token_comes_too_late_once_its_owner_proved_themself() -> None:
    family, current, _ = waiting()
    _, family = carried_out(family, reauthenticate(refresh(current)), NOW + SECOND)

    decision, after = carried_out(family, refresh(current, client=PHONE), NOW + 2 * SECOND)

    assert decision == reuse(PHONE, presented=2, current=3)
    assert not after.is_live


def test_a_password_makes_no_replaced_token_good() -> None:
    family, _, previous = waiting()

    decision, after = carried_out(
        family, reauthenticate(refresh(previous, client=PHONE)), NOW + SECOND
    )

    assert decision == reuse(PHONE, presented=1, current=2)
    assert after == revoked_for_reuse(family, NOW + SECOND)


def test_what_a_refresh_is_refused_for_a_password_does_not_change() -> None:
    family, current, _ = waiting()
    astray = RefreshToken(1, FAMILY_ID, OTHER_SESSION_ID, 1, bytes(32))

    unknown = decide(family, reauthenticate(refresh(astray)), NOW)
    of_the_future = decide(family, reauthenticate(refresh(forged(7))), NOW)
    too_late = decide(family, reauthenticate(refresh(current)), IDLE_END)
    after_the_end = decide(revoked(family), reauthenticate(refresh(current)), NOW)

    assert unknown == Decision(refusal=Refusal.UNKNOWN_SESSION)
    assert of_the_future == unrecognised(LAPTOP, presented=7, current=2)
    assert too_late == expired(ExpiryKind.IDLE, Refusal.SESSION_EXPIRED)
    assert after_the_end == refused_after_the_end(LAPTOP, presented=2)


@pytest.mark.parametrize(
    "command",
    [
        RequireStepUp(),
        COMPLETE,
        CheckToken(refresh(forged(1))),
        reauthenticate(refresh(forged(1))),
    ],
    ids=lambda command: type(command).__name__,
)
def test_nothing_is_proved_in_a_family_that_does_not_exist(command: FamilyCommand) -> None:
    assert decide(None, command, NOW) == Decision(refusal=Refusal.UNKNOWN_SESSION)


# The fold


def test_a_proof_leaves_the_client_that_retries_are_compared_with() -> None:
    family, _, _ = waiting()

    _, after = carried_out(family, COMPLETE, NOW + SECOND)

    assert after.sessions == changed(family).sessions
