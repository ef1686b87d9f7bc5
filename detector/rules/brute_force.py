"""Many passwords are tried on one account from networks that are not its owner's."""

from detector.crowd import CrowdSighting
from detector.findings import Fact, Signal, Subject
from detector.observations import Kind
from detector.rule import CrowdRule, Description, Parameters
from domain.detection import Response, Severity
from domain.ids import UserId


def _look(sighting: CrowdSighting, parameters: Parameters) -> Signal | None:
    now, least = sighting.seen.second, parameters["min_failures"]
    tried = [(account.recent(now), user) for user, account in sighting.accounts]
    attacked = sorted(each for each in tried if each[0] >= least)
    if not attacked:
        return None
    failures, user = attacked[-1]
    return Signal(
        (Fact("failures", 100, f"{failures} within an hour", f"fewer than {least}"),),
        group=f"account:{user}",
        users=tuple(UserId(each) for _, each in attacked),
    )


RULE = CrowdRule(
    about=Description(
        name="brute-force",
        title="Brute force on one account",
        looks_for="Twenty or more failed sign-ins on one account within an hour, from networks "
        "that its owner has not been using for longer than a day.",
        why="Somebody guesses at one person's password.",
        techniques=("T1110.001",),
        false_positives=("A forgotten device that goes on trying an old password.",),
        severity=Severity.MEDIUM,
        response=Response.ALERT,
        subject=Subject.CROWD,
        parameters={"min_failures": 20},
    ),
    kinds=frozenset({Kind.SIGN_IN_FAILURES}),
    look=_look,
)
