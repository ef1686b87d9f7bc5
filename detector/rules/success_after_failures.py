"""Somebody guessed at a password, and then got in."""

from detector.findings import Fact, Signal, Subject
from detector.observations import Kind
from detector.rule import Description, Parameters, UserRule
from detector.sighting import Sighting
from detector.sign_in_risk import risk_of
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
    facts = [Fact("failures_on_account", _GUESSED, f"{failures} within an hour")]
    risk = risk_of(sighting)
    if risk is not None:
        facts.extend(fact for fact in risk.facts if fact.code != "failures_on_account")
    is_theft = (
        failures >= parameters["revoke_at"] and sighting.device_is_new and sighting.carrier_is_new
    )
    return Signal(
        tuple(facts),
        severity=Severity.CRITICAL if is_theft else None,
        response=Response.REVOKE_SESSION if is_theft else None,
        score=None if risk is None else risk.points,
    )


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
