"""The honest: who they are, what they sign in on, how often, and where they live."""

from math import ceil, exp
from random import Random

import msgspec

from detector.world.atlas import Atlas, City, Country
from detector.world.browsers import Device, Form, any_device, any_form
from detector.world.journeys import conference, holiday, move, trip
from detector.world.plan import World
from detector.world.traps import Trap
from detector.world.whereabouts import (
    Access,
    AtHome,
    BehindCarrierNat,
    BehindProxy,
    BehindTunnel,
    Commuting,
    DualStack,
    Whereabouts,
    WithPrivacyAddresses,
    access,
    tunnel_exits,
)

SIGN_INS_CAP = 30
"""Published p99 is 28; one "user" of that data set is 45 % of its rows, hence a cap."""
_JOINING_SHARE = 0.3
"""Everybody's first sign-in falls into this first part of the world's days."""


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
        case _:
            return _journey(person, world, atlas, shared, dice)


def _journey(
    person: Person, world: World, atlas: Atlas, shared: Gatherings, dice: Random
) -> Whereabouts:
    home, phone, usual = person.home, person.phone, person.where
    match person.trap:
        case Trap.HOLIDAY:
            return holiday(world, atlas, home, phone, usual, dice)
        case Trap.CONFERENCE:
            return conference(shared.conference, shared.conference_day, home, usual, dice)
        case Trap.TRAVEL:
            return trip(world, atlas, home, phone, usual, dice)
        case Trap.MOVED:
            return move(world, atlas, home, phone, usual, dice)
        case _:
            return usual
