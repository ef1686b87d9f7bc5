"""Somebody guessed at a password, and then got in."""

from detector.findings import Fact, Signal, Subject
from detector.observations import Kind
from detector.rule import Description, Parameters, UserRule
from detector.sighting import Sighting
from detector.sign_in_risk import signal_of_success
from domain.detection import Response, Severity

_GUESSED = 60


def _look(sighting: Sighting, parameters: Parameters) -> Signal | None:
    crowd = sighting.crowd
    if crowd is None or sighting.cookie_is_known:
        return None
    failures = crowd.account_failures
    if failures < parameters["min_failures"]:
        return None
    if not crowd.tried_from_here and not sighting.carrier_is_new:
        return None  # the owner, at home, while others guess elsewhere
    if crowd.is_home:
        return None
    is_theft = (
        failures >= parameters["revoke_at"] and sighting.device_is_new and sighting.carrier_is_new
    )
    fact = Fact("failures_on_account", _GUESSED, f"{failures} within an hour")
    return signal_of_success(sighting, fact, is_theft=is_theft)


RULE = UserRule(
    about=Description(
        name="success-after-failures",
        title="Success after guessing",
        looks_for="A sign-in from a network that the account's owner does not use, after many "
        "failures within an hour from such networks.",
        why="The password has been guessed, or was in the list that was tried.",
        techniques=("T1110.001", "T1078"),
        false_positives=("Somebody on a journey who tries all the passwords they ever had.",),
        severity=Severity.HIGH,
        response=Response.STEP_UP,
        subject=Subject.USER,
        parameters={"min_failures": 8, "revoke_at": 20},
    ),
    kinds=frozenset({Kind.SIGN_IN}),
    look=_look,
)
