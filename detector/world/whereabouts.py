"""Where a person's device is on the network at an instant, by how they live."""

from random import Random
from typing import Protocol

import msgspec

from detector.world.atlas import Atlas, Carrier, City, Spot, ipv4_spot, ipv6_spot
from detector.world.browsers import Device, Form
from detector.world.lines import DAY_MS, HOUR_MS

_LEASE_DAYS = 40
_WORK_BEGINS, _WORK_ENDS = 8, 17
_FIRST_WEEKEND_DAY = 5
_SECOND_NETWORK_SHARE = 0.25


class Access(msgspec.Struct, frozen=True):
    """A connection: a household's line, a phone's data plan, a hotel's network."""

    carrier: Carrier
    city: City
    block: int
    host: int
    line: int

    def ipv4(self, day: int = 0) -> Spot:
        """Its IPv4 address; the lease changes now and then, within the carrier."""
        renewed = (day + self.host) // _LEASE_DAYS
        return ipv4_spot(
            self.carrier, self.city, self.block + renewed, (self.host + 17 * renewed) % 254 + 1
        )

    def ipv6(self, day: int) -> Spot:
        """An address of its /64, another one each day (RFC 8981)."""
        groups = [((self.host + day) * step * 7919) % 0xFFFE + 1 for step in (1, 3, 5, 7)]
        return ipv6_spot(self.carrier, self.city, self.line, groups)


def access(carrier: Carrier, city: City, dice: Random) -> Access:
    """Somebody's connection to a carrier in a city."""
    return Access(
        carrier, city, dice.randrange(20), dice.randrange(1, 254), dice.randrange(1, 0xFFFF)
    )


class Whereabouts(Protocol):
    """Answers where a device is."""

    def spot(self, device: Device, day: int, local_ms: int, dice: Random) -> Spot | None:
        """The address that a request leaves from.

        Args:
            device: Which of the person's devices.
            day: Day of the world.
            local_ms: Local time since the world's first midnight, in milliseconds.
            dice: Where it is a matter of chance.

        Returns:
            None where the device is off the net, on a plane for instance.
        """
        ...


class AtHome(msgspec.Struct, frozen=True):
    """On the household's line; a phone now and then on its data plan when out."""

    home: Access
    phone: Access
    goes_out: bool

    def spot(self, device: Device, day: int, local_ms: int, dice: Random) -> Spot | None:
        """By day, away from home, at times the data plan."""
        if self.goes_out and device.model.form is Form.MOBILE:
            hour = local_ms % DAY_MS // HOUR_MS
            if _WORK_BEGINS <= hour < _WORK_ENDS and dice.random() < _SECOND_NETWORK_SHARE:
                return self.phone.ipv4(day)
        return self.home.ipv4(day)


class BehindCarrierNat(msgspec.Struct, frozen=True):
    """On a data plan whose carrier gives another address every few minutes."""

    phone: Access

    def spot(self, device: Device, day: int, local_ms: int, dice: Random) -> Spot | None:
        """Any address of the carrier in that city."""
        carrier, city = self.phone.carrier, self.phone.city
        return ipv4_spot(carrier, city, dice.randrange(40), dice.randrange(1, 255))


class WithPrivacyAddresses(msgspec.Struct, frozen=True):
    """IPv6 only, each request from another address of the household's /64."""

    home: Access

    def spot(self, device: Device, day: int, local_ms: int, dice: Random) -> Spot | None:
        """Any host of the /64."""
        groups = [dice.randrange(1, 0xFFFF) for _ in range(4)]
        return ipv6_spot(self.home.carrier, self.home.city, self.home.line, groups)


class DualStack(msgspec.Struct, frozen=True):
    """IPv4 or IPv6, whichever connects first (RFC 8305)."""

    home: Access

    def spot(self, device: Device, day: int, local_ms: int, dice: Random) -> Spot | None:
        """The one or the other."""
        return self.home.ipv6(day) if dice.random() < 0.6 else self.home.ipv4(day)  # noqa: PLR2004


class BehindTunnel(msgspec.Struct, frozen=True):
    """Through a VPN or a relay: always, or on some days; another exit each time it connects."""

    exits: tuple[Access, ...]
    usual: Whereabouts
    share_of_days: float

    def spot(self, device: Device, day: int, local_ms: int, dice: Random) -> Spot | None:
        """An exit that stays for three hours."""
        turn = local_ms // (3 * HOUR_MS) * 2_654_435_761 + id_of(device)
        if (day * 2_654_435_761 + id_of(device)) % 1000 >= self.share_of_days * 1000:
            return self.usual.spot(device, day, local_ms, dice)
        return self.exits[turn % 0xFFFF_FFFB % len(self.exits)].ipv4()


def id_of(device: Device) -> int:
    """A number that stays with a device."""
    return int(device.lag_days * 1_000_000)


class Commuting(msgspec.Struct, frozen=True):
    """Wi-Fi at home, the data plan on the way and at work; laptops on the office's network."""

    home: Access
    phone: Access
    office: Access

    def spot(self, device: Device, day: int, local_ms: int, dice: Random) -> Spot | None:
        """By the hour, on working days."""
        hour = local_ms % DAY_MS // HOUR_MS
        if day % 7 >= _FIRST_WEEKEND_DAY or not _WORK_BEGINS <= hour < _WORK_ENDS:
            return self.home.ipv4(day)
        if device.model.form is Form.MOBILE:
            return self.phone.ipv4(day)
        return self.office.ipv4(day)


class BehindProxy(msgspec.Struct, frozen=True):
    """At work behind the one address of a company, at home after hours."""

    home: Access
    proxy: Access

    def spot(self, device: Device, day: int, local_ms: int, dice: Random) -> Spot | None:
        """By the hour, on working days."""
        hour = local_ms % DAY_MS // HOUR_MS
        if day % 7 < _FIRST_WEEKEND_DAY and _WORK_BEGINS <= hour < _WORK_ENDS:
            return self.proxy.ipv4()
        return self.home.ipv4(day)


class Stay(msgspec.Struct, frozen=True):
    """A part of a journey: from when on, where; None for the way there."""

    from_ms: int
    where: Whereabouts | None


class Journey(msgspec.Struct, frozen=True):
    """One place after the other: a holiday, a conference, a move."""

    stays: tuple[Stay, ...]

    def spot(self, device: Device, day: int, local_ms: int, dice: Random) -> Spot | None:
        """Where the latest stay that has begun is."""
        where: Whereabouts | None = None
        for stay in self.stays:
            if local_ms < stay.from_ms:
                break
            where = stay.where
        return None if where is None else where.spot(device, day, local_ms, dice)


class Abroad(msgspec.Struct, frozen=True):
    """A hotel's network, and for phones a roaming partner or the home carrier's own gateway."""

    hotel: Access
    roaming: Access

    def spot(self, device: Device, day: int, local_ms: int, dice: Random) -> Spot | None:
        """Phones roam by day; everything else is at the hotel."""
        hour = local_ms % DAY_MS // HOUR_MS
        if device.model.form is Form.MOBILE and _WORK_BEGINS <= hour < _WORK_ENDS + 2:
            return self.roaming.ipv4(day)
        return self.hotel.ipv4(day)


def tunnel_exits(atlas: Atlas, city: City, dice: Random, *, relay: bool) -> tuple[Access, ...]:
    """Exits that a subscriber connects to: a relay's are near, a VPN's in a few countries."""
    if relay:
        country = atlas.country_of(city)
        carriers = [dice.choice(atlas.relay) for _ in range(2)]
        return tuple(access(each, dice.choice(country.cities), dice) for each in carriers)
    countries = [atlas.any_country(dice) for _ in range(dice.randint(1, 3))]
    return tuple(
        access(dice.choice(atlas.vpn), dice.choice(country.cities), dice)
        for country in countries
        for _ in range(2)
    )
