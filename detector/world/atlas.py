"""The world's map: countries, cities, carriers, and which addresses belong to whom.

Addresses are nobody's: IPv4 from 240.0.0.0/4, which is never routed, and IPv6 from the
documentation prefix 2001:db8::/32 (RFC 3849). Each carrier has a /16 of the one and a /44 of the
other, so an address tells its carrier.
"""

import json
import math
from collections.abc import Sequence
from functools import cached_property, lru_cache
from importlib.resources import files
from ipaddress import IPv4Address, ip_address
from random import Random

import msgspec

_FIRST_OCTET = 240
_EARTH_RADIUS_KM = 6371.0
_HOSTING = (
    "14061 DigitalOcean; 16509 Amazon; 24940 Hetzner Online; 16276 OVH; 63949 Akamai Cloud; "
    "20473 The Constant Company; 396982 Google Cloud; 8075 Microsoft; 51167 Contabo; 197540 netcup"
)
_VPN = "9009 M247; 60068 Datacamp; 212238 Cdnext; 62041 Packethub"
_RELAY = "13335 Cloudflare; 54113 Fastly; 36183 Akamai Private Relay"
_BUSINESS = "702 Verizon Business; 1299 Arelion; 3356 Level 3; 174 Cogent; 5511 Opentransit"


class City(msgspec.Struct, frozen=True):
    """A place that people live in or travel to."""

    country: str
    name: str
    latitude: float
    longitude: float
    index: int


class Carrier(msgspec.Struct, frozen=True):
    """Who runs a network. ``number`` names its address ranges."""

    number: int
    asn: int
    organisation: str
    anonymous: bool = False


class Country(msgspec.Struct, frozen=True):
    """A country with its cities and carriers; ``offset_ms`` is its time's distance from UTC."""

    code: str
    offset_ms: int
    weight: int
    cities: tuple[City, ...]
    fixed: tuple[Carrier, ...]
    mobile: tuple[Carrier, ...]


class Spot(msgspec.Struct, frozen=True):
    """Where one request comes from, as its address and what a GeoIP database would say of it."""

    ip: str
    geo: str
    """The ``geo`` member of a request line, as JSON."""
    carrier: Carrier
    city: City


class Atlas:
    """All countries and carriers. Read from ``atlas.txt``, beside this file."""

    def __init__(self, text: str) -> None:
        """Read the table of countries."""
        self._carriers: list[Carrier] = []
        self.hosting = self._add_carriers(_HOSTING)
        self.vpn = self._add_carriers(_VPN, anonymous=True)
        self.relay = self._add_carriers(_RELAY, anonymous=True)
        self.business = self._add_carriers(_BUSINESS)
        rows = [line for line in text.splitlines() if line and not line.startswith("#")]
        self.countries = tuple(self._country(row) for row in rows)

    @cached_property
    def _weights(self) -> list[int]:
        return [country.weight for country in self.countries]

    def country_of(self, city: City) -> Country:
        """The country that a city lies in."""
        return self._by_code[city.country]

    @cached_property
    def _by_code(self) -> dict[str, Country]:
        return {country.code: country for country in self.countries}

    def any_country(self, dice: Random) -> Country:
        """A country, by how many of the users live there."""
        return dice.choices(self.countries, self._weights)[0]

    def country_far_from(self, city: City, dice: Random, at_least_km: float) -> Country:
        """A country whose every city is at least so far away."""
        far = [
            country
            for country in self.countries
            if country.code != city.country
            and all(distance_km(city, other) >= at_least_km for other in country.cities)
        ]
        return dice.choice(far)

    def carrier_of(self, ip: str) -> Carrier | None:
        """Whose address it is; None where it is none of this world's."""
        address = ip_address(ip)
        if isinstance(address, IPv4Address):
            number = (int(address) >> 16) - (_FIRST_OCTET << 8)
        else:
            number = (int(address) >> 84) & 0xFFF
        return self._carriers[number - 1] if 0 < number <= len(self._carriers) else None

    def _add_carriers(self, text: str, *, anonymous: bool = False) -> tuple[Carrier, ...]:
        added = []
        for each in text.split(";"):
            asn, _, organisation = each.strip().partition(" ")
            carrier = Carrier(len(self._carriers) + 1, int(asn), organisation, anonymous)
            self._carriers.append(carrier)
            added.append(carrier)
        return tuple(added)

    def _country(self, row: str) -> Country:
        head, cities, fixed, mobile = (part.strip() for part in row.split("|"))
        code, offset, weight = head.split()
        return Country(
            code=code,
            offset_ms=int(float(offset) * 3_600_000),
            weight=int(weight),
            cities=tuple(_city(code, index, each) for index, each in enumerate(cities.split(";"))),
            fixed=self._add_carriers(fixed),
            mobile=self._add_carriers(mobile),
        )


@lru_cache(maxsize=1)
def atlas() -> Atlas:
    """The map, read once."""
    return Atlas((files("detector.world") / "atlas.txt").read_text(encoding="utf-8"))


def distance_km(one: City, other: City) -> float:
    """Great-circle distance.

    >>> oslo = City("NO", "Oslo", 59.91, 10.75, 0)
    >>> round(distance_km(oslo, City("NO", "Bergen", 60.39, 5.32, 1)), -1)
    310.0
    """
    lat1, lat2 = math.radians(one.latitude), math.radians(other.latitude)
    half_lat = math.sin((lat2 - lat1) / 2)
    half_lon = math.sin(math.radians(other.longitude - one.longitude) / 2)
    chord = half_lat**2 + math.cos(lat1) * math.cos(lat2) * half_lon**2
    return 2 * _EARTH_RADIUS_KM * math.asin(math.sqrt(chord))


def ipv4_spot(carrier: Carrier, city: City, block: int, host: int) -> Spot:
    """An IPv4 address: ``block`` (0..39) picks one of the city's /24s, ``host`` (1..254) within."""
    third = (city.index * 40 + block % 40) % 256
    number = carrier.number
    ip = f"{_FIRST_OCTET + (number >> 8)}.{number & 255}.{third}.{host}"
    return Spot(ip, geo_text(carrier, city), carrier, city)


def ipv6_spot(carrier: Carrier, city: City, line: int, host: Sequence[int]) -> Spot:
    """An IPv6 address: ``line`` (1..65535) picks the /64, ``host`` are its four last groups."""
    groups = ":".join(f"{group:x}" for group in host)
    return Spot(
        f"2001:db8:{carrier.number << 4 | city.index:x}:{line:x}:{groups}",
        geo_text(carrier, city),
        carrier,
        city,
    )


@lru_cache(maxsize=4096)
def geo_text(carrier: Carrier, city: City) -> str:
    """The ``geo`` member for an address of the carrier in the city."""
    return json.dumps(
        {
            "country": city.country,
            "city": city.name,
            "lat": city.latitude,
            "lon": city.longitude,
            "asn": carrier.asn,
            "as_org": carrier.organisation,
            "anonymous": carrier.anonymous,
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def _city(country: str, index: int, text: str) -> City:
    name, latitude, longitude = text.strip().rsplit(" ", 2)
    return City(country, name, float(latitude), float(longitude), index)
