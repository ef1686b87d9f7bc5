"""A family's token comes from a network where neither user nor family ever was."""

from detector.findings import Signal, Subject
from detector.observations import Kind
from detector.rule import Description, Parameters, UserRule
from detector.sighting import Change, Sighting
from detector.suspicions import signal_elsewhere
from domain.detection import Response, Severity


def _look(sighting: Sighting, parameters: Parameters) -> Signal | None:
    if sighting.change is not Change.NETWORK:
        return None
    return signal_elsewhere(sighting, parameters)


RULE = UserRule(
    about=Description(
        name="network-change",
        title="Another network within a session",
        looks_for="A refresh from a network where neither user nor family was before, with "
        "something else that does not fit: a lost device cookie, lost client hints, a way too far "
        "for the time, a refresh sooner than the client ever asked for one.",
        why="A stolen token is used from the thief's network. A new network alone says nothing: "
        "people move.",
        techniques=("T1528", "T1550.001", "T1539"),
        false_positives=(
            "A company's proxy in another city that also strips headers.",
            "A browser that deletes its device cookie, on the day of its first trip.",
        ),
        severity=Severity.MEDIUM,
        response=Response.ALERT,
        subject=Subject.FAMILY,
        parameters={"alert_at": 50, "step_up_at": 70, "revoke_at": 130},
    ),
    kinds=frozenset({Kind.REFRESH, Kind.RETRY, Kind.LATE_RETRY}),
    look=_look,
)
