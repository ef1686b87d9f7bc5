"""The honest: who they are, and the trap that each of them sets for the detector."""

from collections.abc import Sequence
from enum import StrEnum
from math import ceil, exp
from random import Random

import msgspec

from detector.world.atlas import Atlas, City, Country, distance_km
from detector.world.browsers import Device, Form, any_device, any_form
from detector.world.lines import DAY_MS, HOUR_MS
from detector.world.plan import World
from detector.world.whereabouts import (
    Abroad,
    Access,
    AtHome,
    BehindCarrierNat,
    BehindProxy,
    BehindTunnel,
    Commuting,
    DualStack,
    Journey,
    Stay,
    Whereabouts,
    WithPrivacyAddresses,
    access,
    tunnel_exits,
)

SIGN_INS_CAP = 30
"""Published p99 is 28; one "user" of that data set is 45 % of its rows, hence a cap."""
_FLIGHT_KMH = 700
_FLIGHT_FIXED_H = 4
_FAR_CITY_KM = 60
_JOINING_SHARE = 0.3
"""Everybody's first sign-in falls into this first part of the world's days."""


class Trap(StrEnum):
    """What an honest user does that looks like an attack to a careless rule."""

    NONE = "none"
    CARRIER_NAT = "carrier-nat"
    IPV6_PRIVACY = "ipv6-privacy"
    DUAL_STACK = "dual-stack"
    AUTO_UPDATE = "auto-update"
    VPN_ALWAYS = "vpn-always"
    VPN_SOMETIMES = "vpn-sometimes"
    RELAY = "relay"
    COMMUTE = "commute"
    HOLIDAY = "holiday"
    CONFERENCE = "conference"
    CORPORATE_PROXY = "corporate-proxy"
    DOUBLE_TAB = "double-tab"
    LOST_RESPONSE = "lost-response"
    NEW_PHONE = "new-phone"
    MOVED = "moved"
    SAME_INSTANT = "same-instant"
    TRAVEL = "travel"
    DORMANT_RETURN = "dormant-return"

    @property
    def label(self) -> str:
        """The label of their lines."""
        return "honest" if self is Trap.NONE else f"honest:{self.value}"


_SHARES = {
    Trap.CARRIER_NAT: 0.06,
    Trap.IPV6_PRIVACY: 0.05,
    Trap.DUAL_STACK: 0.05,
    Trap.AUTO_UPDATE: 0.04,
    Trap.VPN_ALWAYS: 0.02,
    Trap.VPN_SOMETIMES: 0.03,
    Trap.RELAY: 0.03,
    Trap.COMMUTE: 0.15,
    Trap.HOLIDAY: 0.02,
    Trap.CONFERENCE: 0.01,
    Trap.CORPORATE_PROXY: 0.025,
    Trap.DOUBLE_TAB: 0.05,
    Trap.LOST_RESPONSE: 0.05,
    Trap.NEW_PHONE: 0.02,
    Trap.MOVED: 0.01,
    Trap.SAME_INSTANT: 0.01,
    Trap.TRAVEL: 0.03,
    Trap.DORMANT_RETURN: 0.005,
}
_CORPORATE_CAP = 500


class Person(msgspec.Struct):
    """Somebody with an account.

    Attributes:
        user: Their account.
        trap: What is special about them.
        city: Where they live.
        country: The country of that.
        home: The household's line.
        phone: The phone's data plan.
        devices: What they sign in on, the most used first.
        where: Where those devices are.
        sign_in_days: Days of their sign-ins, in order; the first is when they joined.
        new_phone_day: When the first device is replaced; None where it is not.
    """

    user: str
    trap: Trap
    city: City
    country: Country
    home: Access
    phone: Access
    devices: list[Device]
    where: Whereabouts
    sign_in_days: list[float]
    new_phone_day: int | None = None


class Gatherings(msgspec.Struct, frozen=True):
    """What many share: a conference hotel, and a company's proxy."""

    conference: Access
    conference_day: int
    proxy: Access


def gatherings(world: World, atlas: Atlas, dice: Random) -> Gatherings:
    """Where this world's conference is held, and its company."""
    host, office = atlas.any_country(dice), atlas.any_country(dice)
    return Gatherings(
        conference=access(dice.choice(host.fixed), host.cities[0], dice),
        conference_day=max(1, int(world.days * 0.55)),
        proxy=access(dice.choice(atlas.business), office.cities[0], dice),
    )


def allotted_traps(users: int, dice: Random) -> list[Trap]:
    """A trap for each user: shares of them all, at least one of each where there is room."""
    traps = []
    for trap, share in _SHARES.items():
        count = max(1, round(users * share))
        traps += [trap] * (min(count, _CORPORATE_CAP) if trap is Trap.CORPORATE_PROXY else count)
    traps = traps[:users] + [Trap.NONE] * (users - len(traps))
    dice.shuffle(traps)
    return traps


def sign_in_count(dice: Random) -> int:
    """How often a user signs in: median 2, p90 9 (published)."""
    return min(SIGN_INS_CAP, ceil(exp(dice.gauss(0.65, 1.15))))


def person(
    user: str, trap: Trap, world: World, atlas: Atlas, shared: Gatherings, dice: Random
) -> Person:
    """Somebody with that trap.

    Args:
        user: Their account.
        trap: What they do.
        world: How long the world lasts.
        atlas: Where one can live.
        shared: What they may have in common with others.
        dice: Their own.
    """
    country = atlas.any_country(dice)
    if trap is Trap.CORPORATE_PROXY:
        country = atlas.country_of(shared.proxy.city)
    city = dice.choice(country.cities)
    home = access(dice.choice(country.fixed), city, dice)
    phone = access(dice.choice(country.mobile), city, dice)
    signs_in = sign_in_count(dice)
    devices = _devices(trap, signs_in, dice)
    resident = Person(
        user=user,
        trap=trap,
        city=city,
        country=country,
        home=home,
        phone=phone,
        devices=devices,
        where=AtHome(home, phone, goes_out=dice.random() < 0.5),  # noqa: PLR2004
        sign_in_days=_sign_in_days(world, max(signs_in, len(devices)), dice),
    )
    resident.where = _whereabouts(resident, world, atlas, shared, dice)
    if trap is Trap.NEW_PHONE:
        resident.new_phone_day = dice.randrange(world.days // 2, max(world.days - 1, 1) + 1)
    return resident


def _devices(trap: Trap, signs_in: int, dice: Random) -> list[Device]:
    count = min(signs_in, dice.choices((1, 2, 3, 4), (55, 30, 10, 5))[0])
    form, engine = any_form(dice), None
    match trap:
        case Trap.CARRIER_NAT | Trap.NEW_PHONE | Trap.HOLIDAY:
            form = Form.MOBILE
        case Trap.CORPORATE_PROXY:
            form, engine = Form.DESKTOP, "chromium"
        case Trap.RELAY:
            form, engine = Form.MOBILE, "safari"
        case Trap.SAME_INSTANT | Trap.COMMUTE:
            count = max(count, 2)
        case _:
            pass
    devices = [any_device(dice, form, engine=engine)]
    while len(devices) < count:
        only = Form.MOBILE if trap is Trap.CARRIER_NAT else None
        devices.append(any_device(dice, only, engine=engine))
    if trap is Trap.AUTO_UPDATE:
        for device in devices:
            device.lag_days = dice.uniform(-6, 5)
    return devices


def _sign_in_days(world: World, count: int, dice: Random) -> list[float]:
    joined = dice.uniform(0, world.days * _JOINING_SHARE)
    rest = sorted(dice.uniform(joined, world.days) for _ in range(count - 1))
    return [joined, *rest]


def _whereabouts(
    person: Person, world: World, atlas: Atlas, shared: Gatherings, dice: Random
) -> Whereabouts:
    home, phone = person.home, person.phone
    where = person.where
    match person.trap:
        case Trap.CARRIER_NAT:
            return BehindCarrierNat(phone)
        case Trap.IPV6_PRIVACY:
            return WithPrivacyAddresses(home)
        case Trap.DUAL_STACK:
            return DualStack(home)
        case Trap.VPN_ALWAYS | Trap.VPN_SOMETIMES | Trap.RELAY:
            exits = tunnel_exits(atlas, home.city, dice, relay=person.trap is Trap.RELAY)
            share = 0.35 if person.trap is Trap.VPN_SOMETIMES else 1.0
            return BehindTunnel(exits, where, share)
        case Trap.COMMUTE:
            office = access(dice.choice(atlas.business), home.city, dice)
            return Commuting(home, phone, office)
        case Trap.CORPORATE_PROXY:
            return BehindProxy(home, shared.proxy)
        case Trap.HOLIDAY | Trap.CONFERENCE | Trap.TRAVEL | Trap.MOVED:
            return _journey(person, world, atlas, shared, dice)
        case _:
            return where


def _journey(
    person: Person, world: World, atlas: Atlas, shared: Gatherings, dice: Random
) -> Journey:
    leaves = dice.uniform(world.days * 0.4, world.days * 0.75)
    stays = dice.uniform(3, 9)
    match person.trap:
        case Trap.CONFERENCE:
            leaves, stays = shared.conference_day + dice.uniform(0, 0.5), 3
            there: Whereabouts = AtHome(shared.conference, shared.conference, goes_out=False)
            city = shared.conference.city
        case Trap.HOLIDAY:
            country = _another(atlas, person.country, dice)
            city = dice.choice(country.cities)
            hotel = access(dice.choice(country.fixed), city, dice)
            local = access(dice.choice(country.mobile), city, dice)
            # Data roaming leaves the net at home or at the partner, as the carriers agreed.
            roaming = person.phone if dice.random() < 0.4 else local  # noqa: PLR2004
            there = Abroad(hotel, roaming)
        case _:
            city = _other_city(person.country.cities, person.city, dice)
            new_home = access(dice.choice(person.country.fixed), city, dice)
            there = AtHome(new_home, person.phone, goes_out=True)
            stays = world.days + 1.0 if person.trap is Trap.MOVED else stays
    return _there_and_back(person, leaves, stays, city, there)


def _there_and_back(
    person: Person, leaves: float, stays: float, city: City, there: Whereabouts
) -> Journey:
    way_ms = int((distance_km(person.city, city) / _FLIGHT_KMH + _FLIGHT_FIXED_H) * HOUR_MS)
    leaves_ms = int(leaves * DAY_MS)
    returns_ms = leaves_ms + int(stays * DAY_MS)
    return Journey(
        (
            Stay(-1_000 * DAY_MS, person.where),
            Stay(leaves_ms, None),
            Stay(leaves_ms + way_ms, there),
            Stay(returns_ms, None),
            Stay(returns_ms + way_ms, person.where),
        )
    )


def _another(atlas: Atlas, country: Country, dice: Random) -> Country:
    while True:
        other = atlas.any_country(dice)
        if other.code != country.code:
            return other


def _other_city(cities: Sequence[City], city: City, dice: Random) -> City:
    others = [other for other in cities if distance_km(city, other) > _FAR_CITY_KM]
    return dice.choice(others) if others else city
