"""What speaks for a stolen family, and how much: the facts that the rules about families share.

About a hundred points make certainty. A fact that honest clients show every week weighs little, one
that they never show weighs most of it; rules add up what is independent.
"""

from collections.abc import Iterable

from detector.findings import Fact, Response, Severity, Signal
from detector.networks import asn_key, is_rented
from detector.observations import Kind
from detector.profile import Anchor
from detector.rule import Parameters
from detector.sighting import Sighting
from domain.evidence import Network

_COOKIE_LOST = 50
_COOKIE_STRANGE = 35
_COOKIE_KEPT = -5
_HINTS_LOST = 50
_CONTRADICTION = 40
_DOWNGRADE = 15
_DOWNGRADED_MAJORS = 2
_EARLY = 20
_EARLY_REFRESHES = 6
_EARLY_SHARE = 0.9
"""A client that renews its token by a timer may be off by seconds, not by a tenth of the time."""
_EARLY_FOR_ONCE = 35
_EARLY_FOR_ONCE_REFRESHES = 30
_NEW_ASN = 20
_NEW_ASN_UNSETTLED = 15
_NEW_PREFIX = 15
_NEW_PREFIX_UNSETTLED = 10
_RETRIED_ELSEWHERE = 40
_LEFT_THE_TUNNEL = 15
_HOSTING = 60
_HOSTING_FOR_TUNNEL_USERS = 40
_PEOPLES_EXIT = 30
_NEW_COUNTRY = 20
_IMPOSSIBLE = 60
_HURRIED = 15
_NO_PLACES_S = 7200.0
_NO_PLACES = 40
_IMPOSSIBLE_AT_HOME = 35
_IMPOSSIBLE_ON_A_PHONE = 30
_HURRIED_AT_HOME = 15
_GATEWAY_KM = 500.0
_KNOWN_WHEREABOUTS = 2


# --------------------------------------------------------------------------------- the verdict


def points(facts: Iterable[Fact]) -> int:
    """What facts weigh together."""
    return sum(fact.weight for fact in facts)


def signal_of(facts: Iterable[Fact], thresholds: Parameters) -> Signal | None:
    """What facts come to; None where that is not worth a word.

    Args:
        facts: What speaks for it, and against it.
        thresholds: ``alert_at`` points, and where the rule has them ``step_up_at`` and
            ``revoke_at``.
    """
    weighed = tuple(sorted(facts, key=lambda fact: -fact.weight))
    total = points(weighed)
    if total < thresholds["alert_at"]:
        return None
    if "revoke_at" in thresholds and total >= thresholds["revoke_at"]:
        return Signal(weighed, Severity.HIGH, Response.REVOKE_FAMILY, score=float(total))
    if "step_up_at" in thresholds and total >= thresholds["step_up_at"]:
        return Signal(weighed, Severity.MEDIUM, Response.STEP_UP, score=float(total))
    return Signal(weighed, Severity.LOW, Response.ALERT, score=float(total))


def signal_elsewhere(sighting: Sighting, thresholds: Parameters) -> Signal | None:
    """What it comes to that the same device is in another network, or in another country.

    To and fro between networks that are both known says nothing here, as long as the client is
    the same: ``interleaved-networks`` looks at that.
    """
    strange, client = network_facts(sighting), client_facts(sighting)
    is_abroad = sighting.country_changed
    if not strange and not client and not (is_abroad and sighting.country_is_new):
        return None
    way = travel_facts(sighting) if strange or is_abroad else []
    facts = [*strange, *client, *way, *early_refresh(sighting), *cookie_kept(sighting)]
    return signal_of(facts, thresholds)


# ------------------------------------------------------------------------------------ the client


def client_facts(sighting: Sighting) -> list[Fact]:
    """What the same device tells of itself otherwise than before."""
    seen, facts = sighting.seen, []
    if sighting.cookie_was_lost:
        facts.append(Fact("device_cookie_lost", _COOKIE_LOST))
    elif sighting.cookie_is_strange:
        facts.append(Fact("device_cookie_strange", _COOKIE_STRANGE))
    if sighting.hints_were_lost:
        facts.append(Fact("client_hints_lost", _HINTS_LOST))
    if sighting.contradiction_is_new:
        facts.append(Fact("client_contradiction", _CONTRADICTION, seen.device.contradiction or ""))
    if sighting.majors_back >= _DOWNGRADED_MAJORS:
        facts.append(
            Fact("browser_downgrade", _DOWNGRADE, f"{sighting.majors_back} major versions back")
        )
    facts.extend(fact for fact in sighting.device_differences if fact.weight > 0)
    return facts


def cookie_kept(sighting: Sighting) -> list[Fact]:
    """A device cookie that matches: the same device, or a thief who took the whole cookie jar."""
    return [Fact("device_cookie_kept", _COOKIE_KEPT)] if sighting.cookie_matches else []


def early_refresh(sighting: Sighting) -> list[Fact]:
    """A refresh sooner than this client ever asked for one: its access token was still good.

    The more refreshes it has asked for, the less this is chance: one that reloads its page, or
    renews its token with every new network, has mostly shown that by then.
    """
    trace, seen = sighting.trace, sighting.seen
    if trace is None or seen.kind is not Kind.REFRESH or trace.refreshes < _EARLY_REFRESHES:
        return []
    interval = seen.second - trace.last
    if not 0 <= interval < trace.quickest_s * _EARLY_SHARE:
        return []
    usual = f"never within {trace.quickest_s:.0f} s"
    is_for_once = trace.refreshes >= _EARLY_FOR_ONCE_REFRESHES
    weight = _EARLY_FOR_ONCE if is_for_once else _EARLY
    return [Fact("early_refresh", weight, f"after {interval:.0f} s", usual)]


# ----------------------------------------------------------------------------------- the network


def network_facts(sighting: Sighting) -> list[Fact]:
    """How strange the network is to user and family."""
    seen, network = sighting.seen, sighting.seen.network
    if not sighting.asn_is_new:
        return []
    value, usual = name_of(network), anchor_name(sighting.latest_family_anchor)
    is_settled = sighting.is_settled
    if network.asn is None:
        weight = _NEW_PREFIX if is_settled else _NEW_PREFIX_UNSETTLED
        return [Fact("new_network", weight, value, usual)]
    facts = [Fact("new_asn", _NEW_ASN if is_settled else _NEW_ASN_UNSETTLED, value, usual)]
    if seen.kind is Kind.RETRY:
        facts.append(Fact("retried_elsewhere", _RETRIED_ELSEWHERE, value, usual))
    if is_settled and sighting.ground is None and not network.is_elsewhere_by_design:
        facts.append(Fact("left_the_tunnel", _LEFT_THE_TUNNEL, value, usual))
        if sighting.country_is_new:
            facts.append(Fact("new_country", _NEW_COUNTRY, network.country or "", usual))
    return facts


def tunnel_facts(sighting: Sighting) -> list[Fact]:
    """A way out that people take, or machines for rent, by somebody who does not come so."""
    network = sighting.seen.network
    if not network.is_elsewhere_by_design or not sighting.asn_is_new:
        return []
    if is_rented(network):
        if sighting.uses_rented:
            return []
        weight = _HOSTING_FOR_TUNNEL_USERS if sighting.uses_tunnels else _HOSTING
        return [Fact("hosting_network", weight, name_of(network))]
    if sighting.uses_tunnels or network.satellite:
        return []
    return [Fact("anonymous_network", _PEOPLES_EXIT, name_of(network))]


def name_of(network: Network) -> str:
    """A network in words."""
    known = asn_key(network) or network.prefix or "unknown"
    place = "/".join(part for part in (network.country, network.city) if part)
    return " ".join(part for part in (known, network.as_org, place) if part)


def anchor_name(anchor: Anchor | None) -> str:
    """Where somebody was, in words."""
    if anchor is None:
        return "unknown"
    known = anchor.prefix or "unknown" if anchor.asn is None else f"as{anchor.asn}"
    place = "/".join(part for part in (anchor.country, anchor.city) if part)
    return f"{known} {place}".strip()


# ------------------------------------------------------------------------------------ the travel


def travel_facts(sighting: Sighting) -> list[Fact]:
    """A way that the time since the family was last seen does not suffice for."""
    if sighting.country_changed:
        return _abroad(sighting)
    travel = sighting.family_travel
    if travel is None or not travel.is_hurried:
        return []
    value, usual = _way(sighting), anchor_name(sighting.ground)
    if sighting.seen.device.form == "mobile":
        # A carrier's addresses may be on the map where its gateway is, far from the telephone, and
        # somebody who was seen in one network only may be off the Wi-Fi for the first time.
        may_be_a_gateway = (
            travel.km < _GATEWAY_KM and len(_known_asns(sighting)) < _KNOWN_WHEREABOUTS
        )
        if may_be_a_gateway or not travel.is_impossible:
            return []
        is_far = travel.km >= _GATEWAY_KM
        weight = _IMPOSSIBLE_AT_HOME if is_far else _IMPOSSIBLE_ON_A_PHONE
        return [Fact("impossible_travel", weight, value, usual)]
    if travel.is_impossible:
        return [Fact("impossible_travel", _IMPOSSIBLE_AT_HOME, value, usual)]
    return [Fact("hurried_travel", _HURRIED_AT_HOME, value, usual)]


def _abroad(sighting: Sighting) -> list[Fact]:
    seen, ground, facts = sighting.seen, sighting.ground, []
    usual = anchor_name(ground)
    if sighting.country_is_new:
        facts.append(Fact("new_country", _NEW_COUNTRY, seen.network.country or "", usual))
    travel = sighting.family_travel
    if travel is None:
        elapsed = seen.second - ground.second if ground is not None else _NO_PLACES_S
        if elapsed < _NO_PLACES_S:
            facts.append(Fact("quick_change_of_country", _NO_PLACES, f"{elapsed:.0f} s", usual))
    elif travel.is_impossible:
        facts.append(Fact("impossible_travel", _IMPOSSIBLE, _way(sighting), usual))
    elif travel.is_hurried:
        facts.append(Fact("hurried_travel", _HURRIED, _way(sighting), usual))
    return facts


def _known_asns(sighting: Sighting) -> set[str]:
    known = {each.key for each in sighting.profile.asns}
    return known if sighting.trace is None else known | {each.key for each in sighting.trace.asns}


def _way(sighting: Sighting) -> str:
    travel = sighting.family_travel
    if travel is None:
        return ""
    return f"{travel.km:.0f} km in {travel.hours:.1f} h to {name_of(sighting.seen.network)}"


__all__ = [
    "client_facts",
    "cookie_kept",
    "early_refresh",
    "network_facts",
    "points",
    "signal_elsewhere",
    "signal_of",
    "travel_facts",
    "tunnel_facts",
]
