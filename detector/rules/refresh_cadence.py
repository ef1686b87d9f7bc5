"""Refreshes at a pace that no client has."""

from detector.findings import Fact, Signal, Subject
from detector.networks import is_rented
from detector.observations import Kind
from detector.rule import Description, Parameters, UserRule
from detector.sighting import Sighting
from detector.suspicions import signal_of
from domain.detection import Response, Severity

_CLOCKWORK = 30
_AROUND_THE_CLOCK = 10
_NOT_A_BROWSER = 15
_RENTED = 15
_MOVED = 10
_RACING = 60
_QUICK = 30
_DAY_S = 86_400
_SECOND = 1.0
_MINUTE_S = 60.0
_OFTEN_S = 120.0
"""No access token lives so shortly that its client comes back so soon, time and again."""


def _look(sighting: Sighting, parameters: Parameters) -> Signal | None:
    trace, seen = sighting.trace, sighting.seen
    if trace is None or not trace.refreshes:
        return None
    interval = seen.second - trace.last
    is_quick = interval < _MINUTE_S
    # Once a row of refreshes, not at each of them.
    if is_quick and trace.quick + 1 == parameters["racing_refreshes"]:
        value = f"{trace.quick + 1} in a row within a minute of each other"
        return signal_of([Fact("racing_refreshes", _RACING, value)], parameters)
    if abs(interval - trace.interval_s) > _SECOND:
        return None
    steady = trace.steady + 1
    row_s = seen.second - trace.steady_since
    wanted = parameters["steady_refreshes"]
    has_become_a_day = row_s >= _DAY_S > trace.last - trace.steady_since
    if steady != wanted and not (steady > wanted and has_become_a_day):
        return None
    facts = [Fact("clockwork", _CLOCKWORK, f"{steady} refreshes, equal to the second")]
    if interval <= _OFTEN_S:
        facts.append(Fact("time_and_again", _QUICK, f"every {interval:.0f} s"))
    if row_s >= _DAY_S:
        facts.append(Fact("around_the_clock", _AROUND_THE_CLOCK))
    facts.extend(_surroundings(sighting))
    return signal_of(facts, parameters)


def _surroundings(sighting: Sighting) -> list[Fact]:
    trace, seen, facts = sighting.trace, sighting.seen, []
    if seen.device.form in {"bot", "other"}:
        facts.append(Fact("no_browser", _NOT_A_BROWSER, seen.device.signature))
    if is_rented(seen.network):
        facts.append(Fact("hosting_network", _RENTED, seen.network.as_org or ""))
    if trace is not None and trace.moves and trace.moves[0][0] > trace.started:
        facts.append(Fact("began_elsewhere", _MOVED))
    return facts


RULE = UserRule(
    about=Description(
        name="refresh-cadence",
        title="A pace that no client has",
        looks_for="Refreshes equal to the second for hours with something else that tells a "
        "machine: every other minute or more often, no browser, a data centre, no night. Or a long "
        "row of them less than a minute apart.",
        why="People pause, sleep and close the lid; a script that keeps a stolen session alive "
        "does not.",
        techniques=("T1528", "T1550.001"),
        false_positives=(
            "Kiosks and dashboards that are never switched off.",
            "A client with a bug that refreshes at every request.",
        ),
        severity=Severity.LOW,
        response=Response.ALERT,
        subject=Subject.FAMILY,
        parameters={
            "steady_refreshes": 12,
            "racing_refreshes": 30,
            "alert_at": 60,
        },
    ),
    kinds=frozenset({Kind.REFRESH}),
    look=_look,
    quiet=True,
)
