"""How far and how fast: between two places that are known only roughly."""

import math
from typing import NamedTuple

from detector.profile import Anchor
from domain.evidence import Network

_EARTH_KM = 6371.0


class Travel(NamedTuple):
    """A way between two sightings.

    Attributes:
        km: Distance less both places' uncertainties; never negative.
        hours: Time between them.
    """

    km: float
    hours: float

    @property
    def kmh(self) -> float:
        """The least speed that it took."""
        return self.km / self.hours if self.hours > 0 else (math.inf if self.km > 0 else 0.0)


def great_circle_km(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Distance on a sphere between two (latitude, longitude) in degrees (haversine).

    >>> round(great_circle_km((59.91, 10.75), (52.52, 13.41)))
    838
    """
    lat1, lon1, lat2, lon2 = (math.radians(degrees) for degrees in (*one, *other))
    half = (
        math.sin((lat2 - lat1) / 2) ** 2
        + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    )
    return 2 * _EARTH_KM * math.asin(min(1.0, math.sqrt(half)))


def travel_between(anchor: Anchor | None, network: Network, second: float) -> Travel | None:
    """The way from where somebody was last to where they are now.

    Returns:
        None where one of the places is not known, or says nothing of where the person is.
    """
    if anchor is None or anchor.latitude is None or anchor.longitude is None:
        return None
    if network.latitude is None or network.longitude is None or network.is_elsewhere_by_design:
        return None
    km = great_circle_km((anchor.latitude, anchor.longitude), (network.latitude, network.longitude))
    return Travel(
        max(0.0, km - anchor.radius_km - network.radius_km),
        max(0.0, second - anchor.second) / 3600,
    )
