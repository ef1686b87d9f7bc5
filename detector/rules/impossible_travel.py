"""A sign-in farther away than anybody can have travelled since the user was last seen."""

from detector.findings import Fact, Signal, Subject
from detector.networks import place_key
from detector.observations import Kind
from detector.rule import Description, Parameters, UserRule
from detector.sighting import Sighting
from detector.sign_in_risk import risk_of
from domain.detection import Response, Severity

_IMPOSSIBLE = 60


def _look(sighting: Sighting, parameters: Parameters) -> Signal | None:
    travel = sighting.user_travel
    if travel is None or travel.km < parameters["min_km"] or travel.kmh <= parameters["max_kmh"]:
        return None
    if not sighting.place_is_new or sighting.cookie_is_known:
        return None
    crowd = sighting.crowd
    is_shared = crowd is not None and crowd.source_users >= parameters["shared_by"]
    if is_shared and not sighting.device_is_new:
        return None  # a gateway of many: what people do, or their company for them
    way = f"{travel.km:.0f} km in {travel.hours:.1f} h"
    facts = [Fact("impossible_travel", _IMPOSSIBLE, f"{place_key(sighting.seen.network)}, {way}")]
    risk = risk_of(sighting)
    if risk is not None:
        facts.extend(fact for fact in risk.facts if fact.code != "too_fast")
    is_theft = sighting.device_is_new and sighting.carrier_is_new
    return Signal(
        tuple(facts),
        severity=Severity.HIGH if is_theft else None,
        response=Response.REVOKE_SESSION if is_theft else None,
        score=None if risk is None else risk.points,
    )


RULE = UserRule(
    about=Description(
        name="impossible-travel",
        title="Impossible travel",
        looks_for="A sign-in at least 500 km from where the user was last on that device (on any, "
        "where it is new), net of how far off both places may be, faster than 900 km/h, in a "
        "place where they never were. VPNs, data centres and satellites do not count as places.",
        why="Two people use the account.",
        techniques=("T1078",),
        false_positives=(
            (
                "A way out to the internet that no database knows for one: a company's proxy, "
                "until several of its people have been seen there."
            ),
            "Addresses that databases place wrongly.",
        ),
        severity=Severity.MEDIUM,
        response=Response.STEP_UP,
        subject=Subject.USER,
        parameters={"min_km": 500, "max_kmh": 900, "shared_by": 5},
    ),
    kinds=frozenset({Kind.SIGN_IN}),
    look=_look,
)
