"""A device that says it is one of the user's, in a new network, and does not quite fit."""

from detector.findings import Signal, Subject
from detector.novelty import Novelty, novelty_of, signal_by_risk
from detector.observations import Kind
from detector.rule import Description, Parameters, UserRule
from detector.sighting import Sighting
from domain.detection import Response, Severity


def _look(sighting: Sighting, parameters: Parameters) -> Signal | None:
    if novelty_of(sighting) is not Novelty.NETWORK:
        return None
    return signal_by_risk(sighting, parameters)


RULE = UserRule(
    about=Description(
        name="new-asn",
        title="New network, doubtful device",
        looks_for="A sign-in from an autonomous system that the user never showed, on a device "
        "that looks like theirs but comes without their device cookie, or whose user agent "
        "contradicts its client hints.",
        why="A user agent is easily copied, a device cookie is not.",
        techniques=("T1078",),
        false_positives=("A private window on a journey.", "A browser whose cookies were cleared."),
        severity=Severity.LOW,
        response=Response.ALERT,
        subject=Subject.USER,
        parameters={"alert_at": 58, "step_up_at": 75},
    ),
    kinds=frozenset({Kind.SIGN_IN}),
    look=_look,
)
