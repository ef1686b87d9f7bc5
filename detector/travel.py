"""How far and how fast: between two places that are known only roughly."""

import math
from typing import NamedTuple

from detector.profile import Anchor
from domain.evidence import Network

_EARTH_KM = 6371.0
_SAME_REGION_KM = 100.0
"""Nearer than this, two answers of a database may be one place."""
_FLIGHT_KMH, _AIRPORTS_H = 900.0, 2.0
_TRAIN_KMH, _STATIONS_H = 300.0, 0.5
_USUAL_FLIGHT_KMH, _USUAL_AIRPORTS_H = 800.0, 3.0
_USUAL_ROAD_KMH = 130.0


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

    @property
    def is_impossible(self) -> bool:
        """Whether neither the fastest train nor a flight, airports included, is so fast.

        >>> Travel(380, 1).is_impossible, Travel(380, 2).is_impossible, Travel(90, 0).is_impossible
        (True, False, False)
        >>> Travel(7000, 9).is_impossible, Travel(7000, 10).is_impossible
        (True, False)
        """
        return self.km >= _SAME_REGION_KM and self.hours < min(
            self.km / _FLIGHT_KMH + _AIRPORTS_H, self.km / _TRAIN_KMH + _STATIONS_H
        )

    @property
    def is_hurried(self) -> bool:
        """Whether it takes a motorway without a stop, or a flight that one only just catches."""
        return self.km >= _SAME_REGION_KM and self.hours < min(
            self.km / _USUAL_FLIGHT_KMH + _USUAL_AIRPORTS_H, self.km / _USUAL_ROAD_KMH
        )


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
