"""Alerts at the command line."""

import subprocess
from collections.abc import Callable

import pytest

from domain.detection import Severity
from tests.alerts import RULE, TEXTS, raised
from tests.e2e.alerts import raise_alert
from tests.e2e.database import EventLog
from tests.e2e.service import RunningService, command

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def log(module_conninfo: str) -> EventLog:
    return EventLog(module_conninfo)


@pytest.fixture(scope="module")
def run(shared_service: RunningService) -> Run:
    """Runs a command on the service's database."""

    def on_the_database(*arguments: str) -> subprocess.CompletedProcess[str]:
        return command(shared_service.environment, "alerts", *arguments)

    return on_the_database


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_alerts_are_listed_the_worst_first(shared_service: RunningService, run: Run) -> None:
    high = raise_alert(shared_service, raised(severity=Severity.HIGH))
    critical = raise_alert(shared_service, raised(severity=Severity.CRITICAL))
    low = raise_alert(shared_service, raised(severity=Severity.LOW))

    listed = said(run("list", "--severity", "high"))

    assert listed.index(critical.alert_id) < listed.index(high.alert_id)
    assert low.alert_id not in listed


def test_an_alert_is_shown_and_resolved_by_the_operator(
    shared_service: RunningService, run: Run, log: EventLog
) -> None:
    alert = raise_alert(shared_service, raised())
    before = log.end()

    said(run("resolve", alert.alert_id, "benign", "--comment", "a drill of ours"))
    shown = said(run("show", alert.alert_id))
    listed = said(run("list"))

    (event,) = log.after(before)
    assert (event.type, event.data) == ("AlertResolved", {"verdict": "benign"})
    assert event.actor.startswith("operator:")
    for text in (RULE, "resolved", "benign", TEXTS["new_asn"], "a drill of ours", event.actor):
        assert text in shown
    assert alert.alert_id not in listed


@pytest.mark.parametrize("words", [["show"], ["resolve", "benign"]])
@pytest.mark.parametrize("name", ["01a21473-17d6-7840-8441-fee5402f2aba", "nonsense"])
def test_an_alert_that_there_is_not_is_one_line(run: Run, words: list[str], name: str) -> None:
    done = run(words[0], name, *words[1:])

    assert done.returncode == 1
    assert done.stderr.startswith("sessiontrail: ")
    assert name in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_resolved_alert_is_not_resolved_again(shared_service: RunningService, run: Run) -> None:
    alert = raise_alert(shared_service, raised())
    said(run("resolve", alert.alert_id, "true_positive"))

    done = run("resolve", alert.alert_id, "benign")

    assert done.returncode == 1
    assert "resolved already" in done.stderr
