"""One source tries many accounts, a few times each."""

from detector.bursts import STUFFING, is_stuffing
from detector.crowd import CrowdSighting
from detector.findings import Fact, Signal, Subject
from detector.observations import Kind
from detector.rule import CrowdRule, Description, Parameters
from domain.detection import Response, Severity


def _look(sighting: CrowdSighting, parameters: Parameters) -> Signal | None:
    source, now, failures = sighting.source, sighting.seen.second, sighting.seen.failures
    if source is None or failures is None or not is_stuffing(source, now, parameters):
        return None
    tries, accounts = source.tries.total(now), source.tries.accounts(now, parameters["max_each"])
    return Signal(
        (
            Fact("tries", 50, f"{tries} within an hour", f"fewer than {parameters['min_tries']}"),
            Fact("accounts", 50, f"{accounts} or more"),
        ),
        group=f"source:{failures.source}",
    )


RULE = CrowdRule(
    about=Description(
        name="credential-stuffing",
        title="Credential stuffing",
        looks_for="Within an hour 25 or more failed sign-ins from one network, on 15 or more "
        "accounts, a few each. Failures of people at home there do not count, nor those that are "
        "followed by a success.",
        why="Somebody tries a list of leaked passwords.",
        techniques=("T1110.004",),
        false_positives=("A network of many people whose single sign-on has just broken.",),
        severity=Severity.HIGH,
        response=Response.ALERT,
        subject=Subject.CROWD,
        parameters=STUFFING,
    ),
    kinds=frozenset({Kind.SIGN_IN_FAILURES}),
    look=_look,
)
