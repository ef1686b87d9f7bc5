"""How risky a sign-in is, in points: the published score, and the evidence that it does not know.

Ten points are a factor of ten in likelihood that somebody else signed in; at 50 points the user and
an attacker are equally likely to show what was shown. Every finding about a sign-in carries these
points, so that findings can be ranked whichever rule spoke.
"""

from math import log10
from typing import NamedTuple

from detector.bursts import STUFFING
from detector.findings import Fact, Response, Severity, Signal
from detector.networks import asn_key
from detector.rule import Parameters
from detector.sighting import Sighting

_EVEN = 50.0
_MOST = 100.0
_UNUSUAL = 6
"""What was never shown makes an attacker four times likelier in the published score. Sharing no
more than the class of device gives more there, up to a hundred: an artefact, which is cut off."""
_FAMILIAR = -6
"""What the user has shown between sign-ins, if not at one, is familiar all the same."""
_NEW_NETWORKS, _NEW_RANGES, _NEW_DEVICES = 0.2, 0.5, 0.5
_NEW_AMONG = 2.0
"""Of two sign-ins of somebody of whom nothing is known, so many show a new network or device."""
_FIRST_DAYS = -3
_FIRST_DAYS_S = 2 * 86400.0
"""Somebody who has only begun connects the telephone, or the office's laptop, on that day or the
next: what is new then is hardly news, and to have signed in rarely is none at all."""
_MANY_FAILURES = 5
_KNOWN_COOKIE = -20
"""A device cookie that the user has had before: whoever stole the password has not got it."""
_LOST_COOKIE = 6
"""The browser looks like one of the user's, who has cookies, and has none of theirs."""
_HOSTING = 7
_ANONYMOUS = 3
_CONTRADICTION = 10
_FAMILIAR_PLACE = -5
_AFTER_FAILURES = 10
_FAILING_SOURCE = 8
_FAILING_ACCOUNTS = 2
_BURSTING_SOURCE = 20
_IMPOSSIBLE_TRAVEL = 10
_FAR_KM, _FAST_KMH = 500, 900
_NEW_COUNTRY = 5


class SignInRisk(NamedTuple):
    """The points of a sign-in, and what they are made of.

    Attributes:
        points: 0 to 100.
        facts: What weighed how much, heaviest first.
    """

    points: float
    facts: tuple[Fact, ...]


def risk_of(sighting: Sighting) -> SignInRisk | None:
    """The risk of a sign-in; None where nothing is known of the user or of the crowd."""
    score = sighting.risk_score
    if score is None:
        return None
    seen = sighting.seen
    facts = [
        _unusual("address", score.address, asn_key(seen.network) or "", sighting.carrier_is_new),
        _unusual("user_agent", score.agent, seen.device.signature, is_strange_client(sighting)),
        _activity(sighting, score.activity),
        *_news(sighting),
        *_evidence(sighting),
    ]
    points = _EVEN + sum(fact.weight for fact in facts) + _rest(score.ratio)
    facts.sort(key=lambda fact: -fact.weight)
    return SignInRisk(round(min(_MOST, max(0.0, points)), 1), tuple(facts))


def is_strange_client(sighting: Sighting) -> bool:
    """Whether the device is new, or looks like one of the user's and does not quite fit."""
    if sighting.cookie_is_known:
        return False
    return (
        sighting.device_is_new
        or sighting.cookie_is_missed
        or sighting.seen.device.contradiction is not None
    )


def response_to(points: float, parameters: Parameters) -> Response:
    """What a rule with the thresholds ``alert_at`` and ``step_up_at`` does about so many points."""
    if points >= parameters["step_up_at"]:
        return Response.STEP_UP
    return Response.ALERT if points >= parameters["alert_at"] else Response.RECORD


def signal_of_success(sighting: Sighting, failures: Fact, *, is_theft: bool) -> Signal:
    """A sign-in that succeeded where many failed.

    Args:
        sighting: The sign-in.
        failures: The failures, as a fact; it comes first, and once.
        is_theft: Whether what else was seen leaves no doubt: the session is then ended.
    """
    risk = risk_of(sighting)
    further = () if risk is None else risk.facts
    return Signal(
        (failures, *(fact for fact in further if fact.code != failures.code)),
        severity=Severity.CRITICAL if is_theft else None,
        response=Response.REVOKE_SESSION if is_theft else None,
        score=None if risk is None else risk.points,
    )


def _points(ratio: float) -> int:
    return round(10 * log10(ratio))


def _rest(ratio: float) -> float:
    """A part of a point that follows the published score, where the facts are equal."""
    return min(0.49, max(-0.49, log10(ratio) / 20))


def _unusual(code: str, ratio: float, value: str, is_new: bool) -> Fact:
    """A factor of the published score, within what is known besides."""
    return Fact(code, min(_points(ratio), _UNUSUAL if is_new else _FAMILIAR), value)


def _activity(sighting: Sighting, ratio: float) -> Fact:
    """How rarely the user signs in, which nobody can tell of somebody who has only begun."""
    points = _points(ratio)
    if _has_only_begun(sighting):
        points = min(points, 0)
    return Fact("activity", points, f"{sighting.profile.features.sign_ins} sign-ins")


def _news(sighting: Sighting) -> list[Fact]:
    """What is new, and how much of a novelty that is for somebody with this user's habits.

    The estimate is Laplace's, with a prior: news so far, among sign-ins so far.
    """
    own, profile = sighting.profile.features, sighting.profile
    facts = []
    if sighting.carrier_is_new:
        networks = len(own.levels[1])
        prior = _NEW_RANGES if sighting.seen.network.asn is None else _NEW_NETWORKS
        weight = _surprise(networks, own.sign_ins, prior)
        facts.append(Fact("new_network", weight, f"of {networks} known"))
        if sighting.country_is_new and not sighting.seen.network.is_elsewhere_by_design:
            facts.append(Fact("new_country", _NEW_COUNTRY, sighting.seen.network.country or ""))
    if sighting.device_is_new:
        devices = len(profile.devices)
        weight = _surprise(devices, own.sign_ins, _NEW_DEVICES)
        facts.append(Fact("new_device", weight, f"of {devices} known"))
        if _has_only_begun(sighting):
            facts.append(Fact("first_days", _FIRST_DAYS))
    return facts


def _has_only_begun(sighting: Sighting) -> bool:
    return sighting.seen.second - sighting.profile.first_seen < _FIRST_DAYS_S


def _surprise(known: int, sign_ins: int, prior: float) -> int:
    """Points for something new, after so many sign-ins that showed so many different ones."""
    chance = (max(0, known - 1) + prior) / (sign_ins - 1 + _NEW_AMONG)
    return max(0, _points(1 / chance))


def _evidence(sighting: Sighting) -> list[Fact]:
    seen = sighting.seen
    facts = []
    if sighting.cookie_is_known:
        facts.append(Fact("known_device_cookie", _KNOWN_COOKIE))
    elif sighting.cookie_is_missed and sighting.carrier_is_new:
        facts.append(Fact("missing_device_cookie", _LOST_COOKIE))
    if seen.device.contradiction is not None:
        facts.append(Fact("contradicting_hints", _CONTRADICTION, seen.device.contradiction))
    if sighting.carrier_is_new:
        if seen.network.hosting:
            facts.append(Fact("hosting_network", _HOSTING, seen.network.as_org or ""))
        elif seen.network.anonymous:
            facts.append(Fact("anonymous_network", _ANONYMOUS, seen.network.as_org or ""))
        elif sighting.place_is_familiar:
            facts.append(Fact("familiar_place", _FAMILIAR_PLACE, seen.network.city or ""))
    if sighting.carrier_is_new:
        facts.extend(_failures_before(sighting))
        travel = sighting.user_travel
        if travel is not None and travel.km >= _FAR_KM and travel.kmh > _FAST_KMH:
            facts.append(Fact("too_fast", _IMPOSSIBLE_TRAVEL, f"{travel.km:.0f} km"))
    return facts


def _failures_before(sighting: Sighting) -> list[Fact]:
    crowd = sighting.crowd
    if crowd is None:
        return []
    facts = []
    failures = crowd.account_failures
    if failures >= _MANY_FAILURES:
        facts.append(Fact("failures_on_account", _AFTER_FAILURES, f"{failures} within an hour"))
    others = crowd.source_accounts
    if others >= _FAILING_ACCOUNTS:
        weight = _BURSTING_SOURCE if others >= STUFFING["min_accounts"] else _FAILING_SOURCE
        facts.append(Fact("failures_from_there", weight, f"on {others} accounts"))
    return facts
