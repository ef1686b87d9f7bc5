"""A sign-in succeeds from a source that is trying other people's passwords."""

from detector.findings import Fact, Signal, Subject
from detector.observations import Kind
from detector.rule import Description, Parameters, UserRule
from detector.sighting import Sighting
from detector.sign_in_risk import signal_of_success
from domain.detection import Response, Severity

_IN_BURST = 80


def _look(sighting: Sighting, parameters: Parameters) -> Signal | None:
    crowd = sighting.crowd
    if crowd is None or sighting.cookie_is_known or not sighting.prefix_is_new:
        return None
    tries, accounts = crowd.source_failures, crowd.source_accounts
    stuffs = tries >= parameters["min_tries"] and accounts >= parameters["min_accounts"]
    sprays = crowd.is_sprayed_from and accounts >= parameters["min_sprayed"]
    if not stuffs and not sprays:
        return None
    is_theft = stuffs and sighting.device_is_new
    fact = Fact("failures_from_there", _IN_BURST, f"{tries} failures within an hour")
    return signal_of_success(sighting, fact, is_theft=is_theft)


RULE = UserRule(
    about=Description(
        name="success-in-burst",
        title="Success within a burst of failures",
        looks_for="A sign-in from a network that is new to the user and is just now failing to "
        "sign in as many others (stuffing), or takes part in a spray.",
        why="One of the tried passwords was right.",
        techniques=("T1110.004", "T1110.003", "T1078"),
        false_positives=("Somebody who shares the attacker's address: a hotel, a carrier's NAT.",),
        severity=Severity.HIGH,
        response=Response.STEP_UP,
        subject=Subject.USER,
        parameters={"min_tries": 25, "min_accounts": 15, "min_sprayed": 2},
    ),
    kinds=frozenset({Kind.SIGN_IN}),
    look=_look,
)
