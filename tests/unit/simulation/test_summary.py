"""The summary, and the answers as JSON."""

import json

import pytest

from detector.simulation.answers import bad_line, played_line
from detector.simulation.requests import read_request
from detector.simulation.results import Result
from detector.simulation.summary import Summary
from domain.detection import Response
from tests.unit.simulation.builders import Playing, encoded, login, refresh, rules


def test_requests_are_counted_by_result_and_findings_by_rule_and_response() -> None:
    playing, summary = Playing(rules(("odd", Response.ALERT))), Summary()
    for line in (
        login("2026-01-05T08:00:00Z"),
        login("2026-01-06T08:00:00Z", user="bob", family="f2", user_agent="odd"),
        refresh("2026-01-07T08:00:00Z", 7),
    ):
        summary.note(read_request(encoded(**line)), playing.play(line))

    assert (summary.requests, summary.users, summary.days) == (3, 2, 2.0)
    assert summary.results == {Result.OK: 2, Result.REFUSED: 1}
    assert summary.findings == {("odd", Response.ALERT): 1}
    assert summary.alerts_per_1000_users_a_day() == 250.0


def test_findings_on_record_only_are_no_alerts() -> None:
    playing, summary = Playing(rules(("odd", Response.RECORD))), Summary()
    for line in (
        login("2026-01-05T08:00:00Z", user_agent="odd"),
        refresh("2026-01-07T08:00:00Z", 1),
    ):
        summary.note(read_request(encoded(**line)), playing.play(line))

    assert summary.alerts_per_1000_users_a_day() == 0.0


@pytest.mark.parametrize(
    ("end", "rate"), [("2026-01-06T07:59:59Z", None), ("2026-01-06T08:00:00Z", 1000.0)]
)
def test_less_than_a_day_has_no_rate(end: str, rate: float | None) -> None:
    playing, summary = Playing(rules(("odd", Response.ALERT))), Summary()
    for line in (login("2026-01-05T08:00:00Z", user_agent="odd"), refresh(end, 1)):
        summary.note(read_request(encoded(**line)), playing.play(line))

    assert summary.alerts_per_1000_users_a_day() == rate


def test_nobody_has_no_rate() -> None:
    summary = Summary()
    for at in ("2026-01-05T08:00:00Z", "2026-01-09T08:00:00Z"):
        line = refresh(at, 1)
        summary.note(read_request(encoded(**line)), Playing().play(line))

    assert summary.alerts_per_1000_users_a_day() is None
    assert Summary().alerts_per_1000_users_a_day() is None


def test_an_answer_names_line_result_and_findings() -> None:
    playing = Playing(rules(("odd", Response.STEP_UP)))
    quiet = playing.play(login("2026-01-05T08:00:00Z"))
    odd = playing.play(refresh("2026-01-05T08:10:00Z", 1, user_agent="odd"))

    assert json.loads(played_line(1, quiet)) == {"line": 1, "result": "ok", "findings": []}
    assert json.loads(played_line(2, odd)) == {
        "line": 2,
        "result": "ok",
        "findings": [
            {
                "rule": "odd",
                "severity": "high",
                "response": "step_up",
                "score": None,
                "family": "f1",
                "user": "ada",
                "facts": {"named": 50},
            }
        ],
    }


def test_a_bad_line_is_refused_with_its_reason() -> None:
    assert json.loads(bad_line(3, 'it says "no"')) == {
        "line": 3,
        "result": "refused",
        "findings": [],
        "error": 'it says "no"',
    }
