"""Journeys of the honest: a holiday, a conference, a trip within the country, a move."""

from random import Random

from detector.world.atlas import Atlas, City, Country, distance_km
from detector.world.lines import DAY_MS, HOUR_MS
from detector.world.plan import World
from detector.world.whereabouts import Abroad, Access, AtHome, Journey, Stay, Whereabouts, access

_FLIGHT_KMH = 700
_FLIGHT_FIXED_H = 4
_FAR_CITY_KM = 60
_LEAVING = (0.4, 0.75)
"""When in a world's days people leave."""
_HOME_ROUTED_SHARE = 0.4
"""Data roaming leaves the net at home or at the partner, as the carriers agreed."""
_CONFERENCE_DAYS = 3
_LONG_AGO_MS = -1_000 * DAY_MS


def holiday(
    world: World, atlas: Atlas, home: Access, phone: Access, usual: Whereabouts, dice: Random
) -> Journey:
    """Some days abroad: a hotel's network, and roaming."""
    country = _another(atlas, atlas.country_of(home.city), dice)
    city = dice.choice(country.cities)
    hotel = access(dice.choice(country.fixed), city, dice)
    local = access(dice.choice(country.mobile), city, dice)
    roaming = phone if dice.random() < _HOME_ROUTED_SHARE else local
    leaves = dice.uniform(*_LEAVING) * world.days
    there = Abroad(hotel, roaming)
    return _there_and_back(home.city, city, leaves, dice.uniform(3, 9), usual, there)


def conference(
    venue: Access, first_day: int, home: Access, usual: Whereabouts, dice: Random
) -> Journey:
    """Three days in one hotel with many others."""
    there = AtHome(venue, venue, goes_out=False)
    leaves = first_day + dice.uniform(0, 0.5)
    return _there_and_back(home.city, venue.city, leaves, _CONFERENCE_DAYS, usual, there)


def trip(
    world: World, atlas: Atlas, home: Access, phone: Access, usual: Whereabouts, dice: Random
) -> Journey:
    """Some days in another city of the country."""
    there = _elsewhere_in_country(atlas, home, phone, dice)
    leaves = dice.uniform(*_LEAVING) * world.days
    return _there_and_back(home.city, there.home.city, leaves, dice.uniform(3, 9), usual, there)


def move(
    world: World, atlas: Atlas, home: Access, phone: Access, usual: Whereabouts, dice: Random
) -> Journey:
    """Another city and carrier from some day on, for good."""
    there = _elsewhere_in_country(atlas, home, phone, dice)
    leaves = dice.uniform(*_LEAVING) * world.days
    for_good = world.days + 1.0
    return _there_and_back(home.city, there.home.city, leaves, for_good, usual, there)


def _elsewhere_in_country(atlas: Atlas, home: Access, phone: Access, dice: Random) -> AtHome:
    country = atlas.country_of(home.city)
    others = [each for each in country.cities if distance_km(home.city, each) > _FAR_CITY_KM]
    city = dice.choice(others) if others else home.city
    return AtHome(access(dice.choice(country.fixed), city, dice), phone, goes_out=True)


def _there_and_back(
    home: City, city: City, leaves: float, stays: float, usual: Whereabouts, there: Whereabouts
) -> Journey:
    way_ms = int((distance_km(home, city) / _FLIGHT_KMH + _FLIGHT_FIXED_H) * HOUR_MS)
    leaves_ms = int(leaves * DAY_MS)
    returns_ms = leaves_ms + int(stays * DAY_MS)
    return Journey(
        (
            Stay(_LONG_AGO_MS, usual),
            Stay(leaves_ms, None),
            Stay(leaves_ms + way_ms, there),
            Stay(returns_ms, None),
            Stay(returns_ms + way_ms, usual),
        )
    )


def _another(atlas: Atlas, country: Country, dice: Random) -> Country:
    while True:
        other = atlas.any_country(dice)
        if other.code != country.code:
            return other
