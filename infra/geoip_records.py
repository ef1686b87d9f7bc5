"""What a GeoIP file has on an address, in MaxMind's schemas and in others'.

MaxMind's own files are read by ``geoip2``. It refuses files of other types, so those of DB-IP, and
what others repackage, are read as plain records: nested as MaxMind's are, or flat.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from geoip2.database import Reader
from geoip2.models import City, Country
from maxminddb.types import Record

UNSTATED_CITY_RADIUS_KM = 100
UNSTATED_COUNTRY_RADIUS_KM = 1000
"""How far off a place may be that comes without a radius: DB-IP gives none."""

_MAX_LATITUDE, _MAX_LONGITUDE = 90.0, 180.0
_COUNTRY_CODE_CHARS = 2
_ANONYMOUS_KEYS = (
    *("is_anonymous_vpn", "is_public_proxy", "is_residential_proxy", "is_tor_exit_node"),
    *("vpn", "proxy", "relay", "tor"),
)
_HOSTING_KEYS = ("is_hosting_provider", "hosting")

T = TypeVar("T")
Fields = Mapping[str, Record]


@dataclass(frozen=True, slots=True)
class Place:
    """What a city or country file says; see ``domain.evidence.Network``."""

    country: str | None = None
    city: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    radius_km: int = 0


@dataclass(frozen=True, slots=True)
class Operator:
    """What an ASN file says."""

    asn: int | None = None
    organisation: str | None = None


@dataclass(frozen=True, slots=True)
class Anonymity:
    """What an anonymous-IP file says."""

    anonymous: bool = False
    hosting: bool = False


@dataclass(frozen=True, slots=True)
class Schema(Generic[T]):
    """How files of one subject are read.

    Attributes:
        subject: What they say something of.
        maxmind: Readers for MaxMind's database types, by what a type's name contains.
        plain: Reader for records of all others; None where a record says nothing of the subject.
    """

    subject: str
    maxmind: Mapping[str, Callable[[Reader, str], T]]
    plain: Callable[[Fields], T | None]


# ------------------------------------------------------------------------------------- MaxMind


def _place_in_city_file(reader: Reader, ip: str) -> Place:
    return _place_of_city(reader.city(ip))


def _place_in_enterprise_file(reader: Reader, ip: str) -> Place:
    return _place_of_city(reader.enterprise(ip))


def _place_of_city(found: City) -> Place:
    location = found.location
    return _place(
        found.country.iso_code,
        found.city.name,
        (location.latitude, location.longitude),
        location.accuracy_radius,
    )


def _place_in_country_file(reader: Reader, ip: str) -> Place:
    found: Country = reader.country(ip)
    return _place(found.country.iso_code, None, (None, None), None)


def _operator_in_asn_file(reader: Reader, ip: str) -> Operator:
    found = reader.asn(ip)
    return Operator(found.autonomous_system_number, found.autonomous_system_organization)


def _operator_in_isp_file(reader: Reader, ip: str) -> Operator:
    found = reader.isp(ip)
    return Operator(found.autonomous_system_number, found.autonomous_system_organization)


def _anonymity_in_anonymous_ip_file(reader: Reader, ip: str) -> Anonymity:
    found = reader.anonymous_ip(ip)
    hides = (
        found.is_anonymous_vpn
        or found.is_public_proxy
        or found.is_residential_proxy
        or found.is_tor_exit_node
    )
    return _anonymity(found.is_anonymous, hides, found.is_hosting_provider)


def _anonymity_in_anonymous_plus_file(reader: Reader, ip: str) -> Anonymity:
    found = reader.anonymous_plus(ip)
    hides = (
        found.is_anonymous_vpn
        or found.is_public_proxy
        or found.is_residential_proxy
        or found.is_tor_exit_node
    )
    return _anonymity(found.is_anonymous, hides, found.is_hosting_provider)


# --------------------------------------------------------------------------------- all others


def _place_in_record(record: Fields) -> Place | None:
    country = record.get("country")
    code = country.get("iso_code") if isinstance(country, dict) else country
    if not _is_country_code(code):
        code = record.get("country_code")
    city = record.get("city")
    names = city.get("names") if isinstance(city, dict) else None
    name = names.get("en") if isinstance(names, dict) else city
    nested = record.get("location")
    location = nested if isinstance(nested, dict) else record
    place = _place(
        str(code) if _is_country_code(code) else None,
        name if isinstance(name, str) and name else None,
        (
            _number(location.get("latitude", location.get("lat"))),
            _number(location.get("longitude", location.get("lng"))),
        ),
        _number(location.get("accuracy_radius")),
    )
    return None if place == Place() else place


def _operator_in_record(record: Fields) -> Operator | None:
    traits = record.get("traits")
    fields = traits if isinstance(traits, dict) else record
    told = fields.get("autonomous_system_number", fields.get("asn"))
    digits = str(told).upper().removeprefix("AS")
    asn = int(digits) if digits.isascii() and digits.isdigit() else None
    named = (
        fields.get(key)
        for key in ("autonomous_system_organization", "as_organization", "as_name", "organization")
    )
    organisation = next((name for name in named if isinstance(name, str) and name), None)
    return None if asn is None else Operator(asn, organisation)


def _anonymity_in_record(record: Fields) -> Anonymity | None:
    known = {"is_anonymous", *_ANONYMOUS_KEYS, *_HOSTING_KEYS}
    if known.isdisjoint(record):
        return None
    return _anonymity(
        _is_true(record.get("is_anonymous")),
        any(_is_true(record.get(key)) for key in _ANONYMOUS_KEYS),
        any(_is_true(record.get(key)) for key in _HOSTING_KEYS),
    )


# -------------------------------------------------------------------------------- what is said


def _place(
    country: str | None,
    city: str | None,
    coordinates: tuple[float | None, float | None],
    radius_km: float | None,
) -> Place:
    latitude, longitude = coordinates
    if (
        latitude is None
        or longitude is None
        or abs(latitude) > _MAX_LATITUDE
        or abs(longitude) > _MAX_LONGITUDE
    ):
        return Place(country, city)
    if radius_km is None:
        radius_km = UNSTATED_COUNTRY_RADIUS_KM if city is None else UNSTATED_CITY_RADIUS_KM
    return Place(country, city, latitude, longitude, int(radius_km))


def _anonymity(is_anonymous: bool, hides: bool, is_hosting: bool) -> Anonymity:
    """MaxMind calls data centres anonymous too; here that is the word for what hides people."""
    return Anonymity(hides or (is_anonymous and not is_hosting), is_hosting)


def _is_country_code(value: Record | None) -> bool:
    return isinstance(value, str) and len(value) == _COUNTRY_CODE_CHARS


def _is_true(value: Record | None) -> bool:
    return value in ("true", 1)  # True is 1


def _number(value: Record | None) -> float | None:
    """Flat files have numbers as text at times."""
    if not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


PLACES = Schema(
    "places",
    {
        "City": _place_in_city_file,
        "Country": _place_in_country_file,
        "Enterprise": _place_in_enterprise_file,
    },
    _place_in_record,
)
OPERATORS = Schema(
    "autonomous systems",
    {"ASN": _operator_in_asn_file, "ISP": _operator_in_isp_file},
    _operator_in_record,
)
ANONYMITY = Schema(
    "anonymous networks",
    {
        "Anonymous-IP": _anonymity_in_anonymous_ip_file,
        "Anonymous-Plus": _anonymity_in_anonymous_plus_file,
    },
    _anonymity_in_record,
)
