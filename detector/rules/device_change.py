"""A family's token comes from another device."""

from detector.device_change import OTHER_COOKIE
from detector.findings import Fact, Signal, Subject
from detector.observations import Kind
from detector.rule import Description, Parameters, UserRule
from detector.sighting import Change, Sighting
from detector.suspicions import (
    anchor_name,
    early_refresh,
    name_of,
    signal_of,
    travel_facts,
    tunnel_facts,
)
from domain.detection import Response, Severity

_NEW_ASN = 40
_NEW_PREFIX = 35
_FAMILIAR_ELSEWHERE = 25
_FAMILIAR_PREFIX = 15
_SAME_ASN_NEW_DEVICE = -30
_KNOWN_COOKIE = -30
_FURTHER = 20
_MOBILES = ("Android/mobile", "iOS/mobile", "Android/tablet", "iOS/tablet")


def _look(sighting: Sighting, parameters: Parameters) -> Signal | None:
    if sighting.change is not Change.DEVICE:
        return None
    where = _network(sighting)
    if where is None:
        return None
    facts = [*sighting.device_differences[:2], where]
    if sighting.cookie_is_known:
        facts.append(Fact("device_cookie_of_the_user", _KNOWN_COOKIE))
    if sighting.network_changed:
        further = [*travel_facts(sighting), *tunnel_facts(sighting), *early_refresh(sighting)]
        facts.extend(
            Fact(fact.code, min(fact.weight, _FURTHER), fact.value, fact.usual) for fact in further
        )
    return signal_of(facts, parameters)


def _network(sighting: Sighting) -> Fact | None:
    """What the network adds; None where it makes the other device an ordinary one."""
    anchor, network = sighting.latest_family_anchor, sighting.seen.network
    value, usual = name_of(network), anchor_name(anchor)
    if sighting.network_changed and network.asn is not None:
        if sighting.asn_is_new:
            return Fact("new_asn", _NEW_ASN, value, usual)
        return Fact("other_asn", _FAMILIAR_ELSEWHERE, value, usual)
    if not sighting.prefix_changed:
        return None if _may_be_a_new_phone(sighting) else Fact("same_network", 0, value, usual)
    if network.asn is None or anchor is None or anchor.asn is None:
        if sighting.prefix_is_new:
            return Fact("new_network", _NEW_PREFIX, value, usual)
        return Fact("other_network", _FAMILIAR_PREFIX, value, usual)
    weight = _SAME_ASN_NEW_DEVICE if _may_be_a_new_phone(sighting) else 0
    return Fact("same_asn", weight, value, usual)


def _may_be_a_new_phone(sighting: Sighting) -> bool:
    """Whether one telephone took the other's place, or one computer forgot who it is."""
    trace, seen = sighting.trace, sighting.seen
    if trace is None or seen.device.signature == trace.device:
        return True
    return seen.device.signature.startswith(_MOBILES) and trace.device.startswith(_MOBILES)


RULE = UserRule(
    about=Description(
        name="device-change",
        title="Another device within a session",
        looks_for="A refresh token of one device, presented by another: another device cookie, "
        "platform, browser or model. Together with another network it ends the family.",
        why="A token belongs to the device that signed in. Whoever copied it rarely copied the "
        "device as well.",
        techniques=("T1528", "T1550.001", "T1539"),
        false_positives=(
            "A new telephone set up from a backup of the old one: silent in the same network.",
            "Session storage that is carried from one browser to another on one computer.",
        ),
        severity=Severity.HIGH,
        response=Response.REVOKE_FAMILY,
        subject=Subject.FAMILY,
        parameters={"alert_at": OTHER_COOKIE, "step_up_at": 70, "revoke_at": 90},
    ),
    kinds=frozenset({Kind.REFRESH, Kind.RETRY, Kind.LATE_RETRY}),
    look=_look,
)
