"""The same network and device keep turning up in what is found about one user after another."""

from detector.crowd import CrowdSighting, origin_key
from detector.findings import Fact, Signal, Subject
from detector.observations import Kind
from detector.rule import CrowdRule, Description, Parameters
from domain.detection import Response, Severity
from domain.ids import UserId


def _look(sighting: CrowdSighting, parameters: Parameters) -> Signal | None:
    seen, origin, response = sighting.seen, sighting.origin, sighting.seen.response
    if origin is None or response is None or response is Response.RECORD:
        return None
    victims = len(origin.users)
    if seen.network.prefix is None or victims < parameters["min_users"]:
        return None
    users = sighting.source.users(seen.second) if sighting.source is not None else 0
    if seen.client.device_key is None and users > victims * parameters["max_users_each"]:
        return None  # a network of many, where a browser of that kind is nobody's in particular
    return Signal(
        (
            Fact("victims", 80, f"{victims} within a day"),
            Fact("users_there", 0, f"{users} signed in there lately"),
        ),
        response=Response.REVOKE_FAMILY if response.acts else Response.ALERT,
        group=f"origin:{origin_key(seen)}",
        users=tuple(UserId(user) for user, _ in reversed(origin.users)),
    )


RULE = CrowdRule(
    about=Description(
        name="shared-origin",
        title="One thief, many victims",
        looks_for="Alerts about three or more users within a day whose client came from one "
        "network on one device, where hardly anybody else signs in.",
        why="Each alone may be its owner; all together are one thief.",
        techniques=("T1078", "T1550.001"),
        false_positives=("A family on a journey with one new computer.",),
        severity=Severity.HIGH,
        response=Response.ALERT,
        subject=Subject.CROWD,
        parameters={"min_users": 3, "max_users_each": 3},
    ),
    kinds=frozenset({Kind.FOUND}),
    look=_look,
)
