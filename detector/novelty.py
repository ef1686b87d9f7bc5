"""What is new about a sign-in. One sign-in is one rule's to judge: the first of these that fits."""

from enum import Enum

from detector.findings import Signal
from detector.rule import Parameters
from detector.sighting import Sighting
from detector.sign_in_risk import is_strange_client, response_to, risk_of

DORMANT_AFTER_S = 90 * 86400.0


class Novelty(Enum):
    """What a user who is known well enough never showed before."""

    DORMANT = "dormant"
    """Anything at all, after months without a sign of life."""
    COUNTRY = "country"
    """A device in a country, both new."""
    DEVICE = "device"
    """A device in a network, both new."""
    NETWORK = "network"
    """A network; the device looks familiar, but something is wrong with it."""
    NONE = "none"


def novelty_of(sighting: Sighting) -> Novelty:
    """What is new about a sign-in.

    A new device in a familiar network is a new telephone at home, and a familiar device in a new
    network is its owner on the way: neither is news.
    """
    if not sighting.carrier_is_new or not is_strange_client(sighting):
        return Novelty.NONE
    if is_dormant(sighting):
        return Novelty.DORMANT
    if not sighting.is_settled:
        return Novelty.NONE
    if not sighting.device_is_new:
        return Novelty.NETWORK
    if sighting.country_is_new and not sighting.seen.network.is_elsewhere_by_design:
        return Novelty.COUNTRY
    return Novelty.DEVICE


def is_dormant(sighting: Sighting) -> bool:
    """Whether nothing was seen of the user for three months."""
    last_seen = sighting.profile.last_seen
    return 0 < last_seen <= sighting.seen.second - DORMANT_AFTER_S


def signal_by_risk(sighting: Sighting, parameters: Parameters) -> Signal | None:
    """A signal whose response follows from the sign-in's points; None for a first sign-in."""
    risk = risk_of(sighting)
    if risk is None:
        return None
    response = response_to(risk.points, parameters)
    return Signal(risk.facts, response=response, score=risk.points)
