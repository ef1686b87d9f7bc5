"""The player: what the service would have answered, and what the policy would have done."""

from datetime import timedelta

import pytest

from detector.breaker import Breaker
from detector.findings import Finding
from detector.simulation.policy_file import PlayedPolicy, read_policy
from detector.simulation.results import Result
from detector.world.generator import generate
from detector.world.plan import World
from domain.detection import Response
from domain.policy import SessionPolicy
from tests.unit.simulation.builders import (
    Playing,
    login,
    new_device_rule,
    refresh,
    request,
    rules,
    rules_and_listener,
)
from tests.unit.world.domain_player import DomainPlayer
from tests.unit.world.requests import read

SIGNED_IN = login("2026-01-05T08:00:00Z")


def test_an_honest_client_is_answered_ok() -> None:
    results = Playing().results(
        [
            SIGNED_IN,
            refresh("2026-01-05T08:10:00Z", 1),
            refresh("2026-01-05T08:20:00Z", 2),
            request("2026-01-05T08:30:00Z", "logout", family="f1"),
            refresh("2026-01-05T08:40:00Z", 3),
        ]
    )

    assert results == ["ok", "ok", "ok", "ok", "refused"]


def test_a_lost_answer_is_a_retry() -> None:
    results = Playing().results(
        [
            SIGNED_IN,
            refresh("2026-01-05T08:10:00Z", 1),
            refresh("2026-01-05T08:10:05Z", 1),
            refresh("2026-01-05T08:20:00Z", 2),
            refresh("2026-01-05T08:25:00Z", 2),  # late, and from the budget
        ]
    )

    assert results == ["ok", "ok", "retry", "ok", "retry"]


def test_reuse_revokes_the_family_for_both() -> None:
    results = Playing().results(
        [
            SIGNED_IN,
            refresh("2026-01-05T08:10:00Z", 1),
            refresh("2026-01-05T09:10:00Z", 1, ip="198.51.100.1"),
            refresh("2026-01-05T09:20:00Z", 2),
            request("2026-01-05T09:30:00Z", "logout", family="f1"),
        ]
    )

    assert results == ["ok", "ok", "reuse", "revoked", "revoked"]


def test_a_family_that_nobody_used_has_expired() -> None:
    results = Playing().results(
        [SIGNED_IN, refresh("2026-01-19T08:00:00Z", 1), refresh("2026-01-20T08:00:00Z", 1)]
    )

    assert results == ["ok", "expired", "expired"]


def test_a_token_that_was_never_issued_is_refused() -> None:
    results = Playing().results([SIGNED_IN, refresh("2026-01-05T08:10:00Z", 4)])

    assert results == ["ok", "refused"]


@pytest.mark.parametrize(
    "line",
    [
        refresh("2026-01-05T08:10:00Z", 1, family="nobody"),
        request("2026-01-05T08:10:00Z", "logout", family="nobody"),
        request("2026-01-05T08:10:00Z", "verdict", family="nobody", verdict="benign"),
        request("2026-01-05T08:10:00Z", "login_failed", user="nobody"),
        login("2026-01-05T08:10:00Z", user="somebody else"),  # a name that is taken
    ],
)
def test_what_cannot_be_done_is_refused(line: dict[str, object]) -> None:
    assert Playing().results([SIGNED_IN, line]) == ["ok", "refused"]


def test_a_step_up_keeps_refusing_until_time_is_up() -> None:
    playing = Playing(rules(("odd", Response.STEP_UP)))

    results = playing.results(
        [
            SIGNED_IN,
            refresh("2026-01-05T08:10:00Z", 1, user_agent="odd"),
            refresh("2026-01-05T08:20:00Z", 2),
            refresh("2026-01-05T08:30:00Z", 3),  # the file's client thinks that it went on
            refresh("2026-01-19T08:20:00Z", 4),
        ]
    )

    assert results == ["ok", "ok", "step_up", "step_up", "expired"]


def test_reuse_under_step_up_is_reuse() -> None:
    playing = Playing(rules(("odd", Response.STEP_UP)))

    results = playing.results(
        [
            SIGNED_IN,
            refresh("2026-01-05T08:10:00Z", 1, user_agent="odd"),
            refresh("2026-01-05T08:20:00Z", 1, user_agent="thief"),
        ]
    )

    assert results == ["ok", "ok", "reuse"]


@pytest.mark.parametrize("response", [Response.REVOKE_SESSION, Response.REVOKE_FAMILY])
def test_a_family_that_the_policy_revokes_refuses_its_later_requests(response: Response) -> None:
    playing = Playing(rules(("thief", response)))

    results = playing.results(
        [
            SIGNED_IN,
            login("2026-01-05T08:01:00Z", family="f2"),
            refresh("2026-01-05T08:10:00Z", 1, user_agent="thief"),
            refresh("2026-01-05T08:20:00Z", 2),
            refresh("2026-01-05T08:20:00Z", 1, family="f2"),
        ]
    )

    assert results == ["ok", "ok", "ok", "revoked", "ok"]


def test_revoke_all_ends_every_family_of_the_user_and_of_nobody_else() -> None:
    playing = Playing(rules(("thief", Response.REVOKE_ALL)))

    results = playing.results(
        [
            SIGNED_IN,
            login("2026-01-05T08:01:00Z", family="f2"),
            login("2026-01-05T08:01:00Z", family="f3", user="bob"),
            refresh("2026-01-05T08:10:00Z", 1, user_agent="thief"),
            refresh("2026-01-05T08:20:00Z", 2),
            refresh("2026-01-05T08:20:00Z", 1, family="f2"),
            refresh("2026-01-05T08:20:00Z", 1, family="f3"),
        ]
    )

    assert results[3:] == ["ok", "revoked", "revoked", "ok"]


@pytest.mark.parametrize("response", [Response.RECORD, Response.ALERT])
def test_what_only_alerts_changes_nothing(response: Response) -> None:
    playing = Playing(rules(("odd", response)))

    playing.play(SIGNED_IN)
    told = playing.play(refresh("2026-01-05T08:10:00Z", 1, user_agent="odd"))
    after = playing.play(refresh("2026-01-05T08:20:00Z", 2))

    assert [(each.rule, each.response) for each in told.findings] == [("odd", response)]
    assert after.result is Result.OK


def test_a_finding_names_its_line_family_and_user() -> None:
    playing = Playing(rules(("odd", Response.ALERT)))

    finding = playing.play(login("2026-01-05T08:00:00Z", user_agent="odd")).findings[0]

    assert (finding.event_id, finding.family_id, finding.user_id) == ("1", "f1", "ada")


def test_the_least_recently_used_session_makes_room() -> None:
    policy = PlayedPolicy(session=SessionPolicy(session_limit=2))

    results = Playing(policy=policy).results(
        [
            SIGNED_IN,
            login("2026-01-05T08:01:00Z", family="f2"),
            login("2026-01-05T08:02:00Z", family="f3"),
            refresh("2026-01-05T08:10:00Z", 1),
            refresh("2026-01-05T08:10:00Z", 1, family="f2"),
        ]
    )

    assert results[3:] == ["revoked", "ok"]


def test_a_rule_that_would_end_too_many_only_alerts_for_an_hour() -> None:
    playing = Playing(rules(("odd", Response.REVOKE_FAMILY)))
    most = Breaker().always
    names = [f"f{number}" for number in range(most + 4)]
    for name in names:
        playing.play(login("2026-01-05T08:00:00Z", family=name, user=name))

    def odd(at: str, name: str) -> Finding:
        return playing.play(refresh(at, 1, family=name, user_agent="odd")).findings[0]

    within = [odd("2026-01-05T08:10:00Z", name) for name in names[: most + 2]]
    later = odd("2026-01-05T09:09:59Z", names[-2])
    again = odd("2026-01-05T09:10:00Z", names[-1])
    ends = playing.results([refresh("2026-01-05T09:20:00Z", 2, family=name) for name in names])

    assert {each.response for each in within[: most + 1]} == {Response.REVOKE_FAMILY}
    assert within[-1].response is Response.ALERT
    assert later.response is Response.ALERT
    assert again.response is Response.REVOKE_FAMILY
    assert ends == ["revoked"] * most + ["ok"] * 3 + ["revoked"]


@pytest.mark.parametrize(
    ("verdict", "is_known"), [("false_positive", True), ("benign", True), ("true_positive", False)]
)
def test_a_verdict_teaches_what_was_alerted_about(verdict: str, is_known: bool) -> None:
    playing = Playing(new_device_rule())

    first = playing.play(SIGNED_IN)
    again = playing.play(login("2026-01-05T09:00:00Z", family="f2"))
    heard = playing.play(request("2026-01-05T10:00:00Z", "verdict", family="f1", verdict=verdict))
    after = playing.play(login("2026-01-05T11:00:00Z", family="f3"))

    assert (len(first.findings), len(again.findings)) == (1, 1)
    assert heard.result is Result.OK
    assert (after.findings == []) is is_known


def test_the_detector_hears_of_every_end() -> None:
    heard: list[str | None] = []
    policy = PlayedPolicy(session=SessionPolicy(session_limit=3))
    playing = Playing(rules_and_listener(heard, ("thief", Response.REVOKE_FAMILY)), policy)
    for number, name in enumerate(("crowded", "reused", "left", "robbed")):
        playing.play(login(f"2026-01-05T08:0{number}:00Z", family=name))
    playing.play(login("2026-01-05T08:05:00Z", family="idle", user="bob"))

    playing.play(refresh("2026-01-05T09:00:00Z", 1, family="reused"))
    playing.play(refresh("2026-01-05T10:00:00Z", 1, family="reused", ip="198.51.100.1"))
    playing.play(request("2026-01-05T10:01:00Z", "logout", family="left"))
    playing.play(refresh("2026-01-05T10:02:00Z", 1, family="robbed", user_agent="thief"))
    playing.play(request("2026-02-05T00:00:00Z", "login_failed", user="ada"))

    assert heard == ["crowded", "reused", "left", "robbed", "idle"]


def test_a_request_out_of_order_happens_when_the_one_before_did() -> None:
    playing = Playing(policy=PlayedPolicy(session=SessionPolicy(overlap_window=timedelta(0))))

    results = playing.results(
        [
            SIGNED_IN,
            refresh("2026-01-05T08:10:00Z", 1),
            login("2020-01-01T00:00:00Z", family="old"),
            refresh("2026-01-05T08:20:00Z", 1, family="old"),
            refresh("2026-01-05T08:20:00Z", 2),
        ]
    )

    assert results == ["ok"] * 5


def test_names_of_any_text_are_played() -> None:
    for name in ("ж", "🦉", "a b", "\u0000", "x" * 512):
        results = Playing(rules(("thief", Response.REVOKE_ALL))).results(
            [
                login("2026-01-05T08:00:00Z", family=name, user=name),
                refresh("2026-01-05T08:10:00Z", 1, family=name),
                refresh("2026-01-05T08:20:00Z", 2, family=name, user_agent="thief"),
                refresh("2026-01-05T08:30:00Z", 3, family=name),
            ]
        )

        assert results == ["ok", "ok", "ok", "revoked"]


def test_a_policy_can_make_a_rule_milder_or_silence_it() -> None:
    about = rules(("odd", Response.REVOKE_FAMILY))
    for text, expected in (
        (b'{"rules": {"odd": {"response": "alert"}}}', [Response.ALERT]),
        (b'{"rules": {"odd": {"enabled": false}}}', []),
        (b'{"allow": [{"user": "ada"}]}', []),
        (b'{"allow": [{"network": "203.0.113.0/24", "rule": "odd"}]}', []),
        (
            b'{"allow": [{"user": "ada", "until": "2026-01-01T00:00:00Z"}]}',
            [Response.REVOKE_FAMILY],
        ),
    ):
        playing = Playing(about, read_policy(text, about))
        found = playing.play(login("2026-01-05T08:00:00Z", user_agent="odd")).findings

        assert [each.response for each in found] == expected


def test_a_labelled_world_is_answered_as_the_domain_answers_it() -> None:
    """Without rules, every line comes to what ``decide`` and ``evolve`` make of it."""
    playing, domain = Playing(), DomainPlayer()
    answers: dict[str, set[str]] = {}

    for number, line in enumerate(generate(World(seed=5, users=60, days=8, attacks=2)), 1):
        told = read(line)
        if told.do in {"login_failed", "verdict"}:
            continue
        said = domain.play(told)
        played = playing.play_bytes(number, line)
        answers.setdefault(said, set()).add(played.result.value)

    assert answers.pop("ok") == {"ok"}
    assert answers.pop("retry") == {"retry"}
    assert answers.pop("token_reused") == {"reuse"}
    assert set().union(*answers.values()) <= {"revoked", "refused", "expired"}
