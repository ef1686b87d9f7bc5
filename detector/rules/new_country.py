"""A user who is well known signs in on a new device from a new country."""

from msgspec.structs import replace

from detector.findings import Signal, Subject
from detector.novelty import Novelty, novelty_of, signal_by_risk
from detector.observations import Kind
from detector.rule import Description, Parameters, UserRule
from detector.sighting import Sighting
from domain.detection import Response, Severity


def _look(sighting: Sighting, parameters: Parameters) -> Signal | None:
    if novelty_of(sighting) is not Novelty.COUNTRY:
        return None
    signal = signal_by_risk(sighting, parameters)
    return None if signal is None else replace(signal, response=None)


RULE = UserRule(
    about=Description(
        name="new-country",
        title="New device in a new country",
        looks_for="A sign-in on a device, from an autonomous system and in a country that the user "
        "never showed, once they are known by three sign-ins and five days.",
        why="People travel with their devices. Stolen passwords are used from anywhere.",
        techniques=("T1078",),
        false_positives=("A device bought or borrowed on a journey.",),
        severity=Severity.HIGH,
        response=Response.STEP_UP,
        subject=Subject.USER,
        parameters={"alert_at": 0, "step_up_at": 0},
    ),
    kinds=frozenset({Kind.SIGN_IN}),
    look=_look,
)
