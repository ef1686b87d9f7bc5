"""A user who is well known signs in on a new device from a new network."""

from detector.findings import Signal, Subject
from detector.novelty import Novelty, novelty_of, signal_by_risk
from detector.observations import Kind
from detector.rule import Description, Parameters, UserRule
from detector.sighting import Sighting
from domain.detection import Response, Severity


def _look(sighting: Sighting, parameters: Parameters) -> Signal | None:
    if novelty_of(sighting) is not Novelty.DEVICE:
        return None
    return signal_by_risk(sighting, parameters)


RULE = UserRule(
    about=Description(
        name="new-device",
        title="New device in a new network",
        looks_for="A sign-in on a device and from an autonomous system that the user never showed, "
        "once they are known by three sign-ins and five days.",
        why="Somebody with a stolen password has neither. The owner mostly brings one of them: a "
        "new telephone is set up at home, and a known one travels.",
        techniques=("T1078",),
        false_positives=(
            "A computer at a new place of work.",
            "A borrowed device on a journey.",
        ),
        severity=Severity.MEDIUM,
        response=Response.ALERT,
        subject=Subject.USER,
        parameters={"alert_at": 40, "step_up_at": 60},
    ),
    kinds=frozenset({Kind.SIGN_IN}),
    look=_look,
)
