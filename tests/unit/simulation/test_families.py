"""The sessions of a played file."""

from datetime import UTC, datetime, timedelta

from detector.simulation.families import Families
from domain.client import ClientContext
from domain.events.families import EndReason
from domain.family_decisions import EndSession, RequireStepUp
from domain.policy import SessionPolicy
from domain.refusals import Refusal

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
CLIENT = ClientContext(ip="203.0.113.7", user_agent="Firefox")
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def test_a_name_opens_one_family() -> None:
    families = Families(SessionPolicy())

    first = families.start("f1", "ada", CLIENT, NOW)
    second = families.start("f1", "bob", CLIENT, NOW)

    assert (first, second) == ([], None)
    family = families.get("f1")
    assert family is not None
    assert family.family.user_id == "ada"


def test_current_and_previous_tokens_are_genuine_and_others_are_not() -> None:
    families = Families(SessionPolicy())
    families.start("ж", "ada", CLIENT, NOW)
    played = families.get("ж")
    assert played is not None

    current = families.refresh(played, 1, CLIENT, NOW)
    retried = families.refresh(played, 1, CLIENT, NOW + timedelta(seconds=5))
    future = families.refresh(played, 9, CLIENT, NOW + MINUTE)

    assert current.refusal is None
    assert retried.refusal is None
    assert retried.events[0].event.TYPE == "RefreshRetried"
    assert future.refusal is Refusal.TOKEN_UNRECOGNISED
    assert played.family.is_live


def test_what_ends_is_no_longer_counted() -> None:
    families = Families(SessionPolicy())
    for name in ("f1", "f2", "f3"):
        families.start(name, "ada", CLIENT, NOW)
    first, second = families.get("f1"), families.get("f2")
    assert first is not None
    assert second is not None

    families.command(first, EndSession(first.family.sessions[0].session_id, EndReason.LOGOUT), NOW)
    families.refresh(second, 1, CLIENT, NOW)
    families.refresh(second, 1, ClientContext(), NOW + DAY)  # reuse
    families.command(first, RequireStepUp(), NOW)

    assert families.live == 1
    assert [each.family.family_id for each in families.of_user("ada")] == ["f3"]


def test_time_ends_what_nobody_uses_and_spares_what_is_in_use() -> None:
    families = Families(SessionPolicy(idle_timeout=DAY, absolute_lifetime=3 * DAY))
    families.start("idle", "ada", CLIENT, NOW)
    families.start("busy", "ada", CLIENT, NOW)
    busy = families.get("busy")
    assert busy is not None
    families.refresh(busy, 1, CLIENT, NOW + DAY / 2)

    before = families.expire(NOW + DAY - timedelta(microseconds=1))
    after = families.expire(NOW + DAY)
    families.refresh(busy, 2, CLIENT, NOW + 5 * DAY / 4)
    families.refresh(busy, 3, CLIENT, NOW + 2 * DAY)
    families.refresh(busy, 4, CLIENT, NOW + 11 * DAY / 4)
    at_last = families.expire(NOW + 3 * DAY)

    assert before == []
    assert [each.family.family_id for each in after] == ["idle"]
    assert after[0].family.sessions[0].end_reason == "expired_idle"
    assert [each.family.family_id for each in at_last] == ["busy"]
    assert at_last[0].family.sessions[0].end_reason == "expired_absolute"
    assert families.live == 0


def test_the_least_recently_used_makes_room_but_not_one_that_is_over() -> None:
    families = Families(SessionPolicy(session_limit=2))
    families.start("f1", "ada", CLIENT, NOW)
    families.start("f2", "ada", CLIENT, NOW + MINUTE)
    families.start("other", "bob", CLIENT, NOW)
    first = families.get("f1")
    assert first is not None
    families.refresh(first, 1, CLIENT, NOW + 2 * MINUTE)

    doomed = families.start("f3", "ada", CLIENT, NOW + 3 * MINUTE)
    none = families.start("f4", "bob", CLIENT, NOW + 3 * MINUTE)

    assert doomed is not None
    assert [each.family.family_id for each in doomed] == ["f2"]
    assert doomed[0].family.sessions[0].end_reason == EndReason.SESSION_LIMIT.value
    assert none == []
    assert families.live == 4
