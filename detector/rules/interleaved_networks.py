"""One session is alive in two networks far apart, at the same time."""

from detector.findings import Fact, Signal, Subject
from detector.networks import asn_key
from detector.observations import Kind
from detector.rule import Description, Parameters, UserRule
from detector.sighting import Change, Sighting
from detector.suspicions import anchor_name, cookie_kept, name_of, signal_of
from domain.detection import Response, Severity

_ABROAD = 70
_FAR = 45
_MORE = 10


def _look(sighting: Sighting, parameters: Parameters) -> Signal | None:
    trace, seen = sighting.trace, sighting.seen
    if trace is None or sighting.change not in {Change.NETWORK, Change.COUNTRY}:
        return None
    travel = sighting.family_travel
    if travel is None or travel.km < parameters["min_km"] or not travel.is_impossible:
        return None
    if seen.device.form == "mobile" and not sighting.country_changed:
        return None  # a carrier's gateway may be anywhere in the country
    moves = _moves(sighting, parameters["within_s"])
    if moves < parameters["min_moves"] or sighting.was_vouched_for:
        return None
    way = f"{travel.km:.0f} km, {moves} moves to and fro, now at {name_of(seen.network)}"
    weight = _ABROAD if sighting.country_changed else _FAR
    further = min(moves - parameters["min_moves"], 2) * _MORE
    apart = Fact("two_places_at_once", weight + further, way, anchor_name(sighting.ground))
    return signal_of([apart, *cookie_kept(sighting)], parameters)


def _moves(sighting: Sighting, within_s: int) -> int:
    """How many of the family's latest moves went between here and where it is not now."""
    trace, seen = sighting.trace, sighting.seen
    if trace is None:
        return 0
    here = asn_key(seen.network) or seen.network.prefix
    lately = [where for second, where in trace.moves if seen.second - second < within_s]
    if not lately or lately[0] == here:
        return 0
    turns = (lately[0], here)
    moves = 1
    for count, where in enumerate(lately):
        if where != turns[count % 2]:
            break
        moves += 1
    return moves


RULE = UserRule(
    about=Description(
        name="interleaved-networks",
        title="A session in two places at once",
        looks_for="Refreshes of one family that go back and forth between two networks, both "
        "known to it, that are too far apart for the time between them. Networks that tell nothing "
        "of a place do not count.",
        why="Two clients use one session: the thief's copy is kept fresh, by malware on the "
        "owner's device or a proxy between them and us.",
        techniques=("T1557", "T1539", "T1550.001"),
        false_positives=(
            (
                "A traveller's telephone that goes back and forth between Wi-Fi and a carrier "
                "whose gateway is in another country; silent once they have proved themselves."
            ),
        ),
        severity=Severity.MEDIUM,
        response=Response.STEP_UP,
        subject=Subject.FAMILY,
        parameters={
            "min_km": 500,
            "min_moves": 4,
            "within_s": 3600,
            "alert_at": 40,
            "step_up_at": 60,
        },
    ),
    kinds=frozenset({Kind.REFRESH, Kind.RETRY, Kind.LATE_RETRY}),
    look=_look,
)
