"""Many sources try many accounts, a few times each."""

from detector.bursts import SPRAYING, is_spraying
from detector.crowd import CrowdSighting
from detector.findings import Fact, Signal, Subject
from detector.observations import Kind
from detector.rule import CrowdRule, Description, Parameters
from domain.detection import Response, Severity


def _look(sighting: CrowdSighting, parameters: Parameters) -> Signal | None:
    spray, now = sighting.spray, sighting.seen.second
    if spray is None or not is_spraying(spray, sighting.sign_ins, now, parameters):
        return None
    expected = spray.expected(sighting.sign_ins)
    return Signal(
        (
            Fact("tries", 60, f"{spray.accounts.total(now)} within an hour", f"{expected:.0f}"),
            Fact("sources", 20, f"{len(spray.sources.tried)} or more"),
            Fact("accounts", 20, f"{len(spray.accounts.tried)} or more"),
        ),
        group="everywhere",
    )


RULE = CrowdRule(
    about=Description(
        name="password-spraying",
        title="Password spraying",
        looks_for="Within an hour failed sign-ins from 5 or more networks on 8 or more accounts, "
        "at most 5 each: 25 or more, and clearly more than mistyping explains at the number of "
        "people who sign in.",
        why="Somebody tries a few common passwords on everybody, from rented addresses, so that no "
        "address and no account stands out.",
        techniques=("T1110.003",),
        false_positives=("A client with an error in its sign-in form.",),
        severity=Severity.HIGH,
        response=Response.ALERT,
        subject=Subject.CROWD,
        parameters=SPRAYING,
    ),
    kinds=frozenset({Kind.SIGN_IN_FAILURES}),
    look=_look,
)
