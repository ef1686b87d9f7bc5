"""The same device, where it was before, suddenly tells of itself otherwise."""

from detector.findings import Signal, Subject
from detector.observations import Kind
from detector.rule import Description, Parameters, UserRule
from detector.sighting import Change, Sighting
from detector.suspicions import client_facts, points, signal_of
from domain.detection import Response, Severity


def _look(sighting: Sighting, parameters: Parameters) -> Signal | None:
    if sighting.change is not Change.CLIENT:
        return None
    facts = client_facts(sighting)
    total = points(facts)
    if total < parameters["record_at"]:
        return None
    if total < parameters["alert_at"]:
        facts.sort(key=lambda fact: -fact.weight)
        return Signal(tuple(facts), Severity.INFO, Response.RECORD, score=float(total))
    return signal_of(facts, parameters)


RULE = UserRule(
    about=Description(
        name="client-contradiction",
        title="A client that contradicts itself",
        looks_for="Within one network: a user agent that contradicts its client hints, hints or a "
        "device cookie that came with every request so far and come no more, a browser that is "
        "two major versions older than before. One of these is put on record, two raise an alert.",
        why="A script that copies a user agent seldom copies everything that a browser sends.",
        techniques=("T1539", "T1036"),
        false_positives=(
            "Extensions that change the user agent.",
            "Proxies that strip headers; a browser that deletes its cookies when it closes.",
        ),
        severity=Severity.LOW,
        response=Response.ALERT,
        subject=Subject.FAMILY,
        parameters={"record_at": 40, "alert_at": 80, "step_up_at": 120},
    ),
    kinds=frozenset({Kind.REFRESH, Kind.RETRY, Kind.LATE_RETRY}),
    look=_look,
)
