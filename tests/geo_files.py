"""Small GeoIP files over the networks for documentation (RFC 5737, RFC 3849) and a few more.

In MaxMind's schemas and in DB-IP's, for tests; nothing in them is true of a real network.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mmdb_writer import MMDBWriter
from netaddr import IPSet

BUILT = 1_790_000_000
"""When the files were built, unless a test says otherwise: 2026-09-21."""


@dataclass(frozen=True, slots=True)
class Site:
    """A made-up network and all that is to be known of it."""

    network: str
    country: str | None = None
    city: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    radius_km: int | None = None
    asn: int | None = None
    organisation: str | None = None


OSLO = Site("192.0.2.0/25", "NO", "Oslo", 59.91, 10.75, 20, 64500, "Nordic Broadband")
BERGEN = Site("192.0.2.128/25", "NO", "Bergen", 60.39, 5.32, 50, 64500, "Nordic Broadband")
LISBON = Site("198.51.100.0/24", "PT", "Lisbon", 38.72, -9.14, 10, 64501, "Tagus Telecom")
RENTED = Site("203.0.113.0/25", "DE", "Falkenstein", 50.48, 12.37, 100, 24940, "Hetzner Online")
CLOUD = Site("203.0.113.128/26", "US", None, 37.75, -97.82, 1000, 64502, "Example Cloud Inc")
AT_SEA = Site("203.0.113.192/26", "US", None, None, None, None, 14593, "SpaceX Starlink")
OSLO_6 = Site("2001:db8:1::/48", "NO", "Oslo", 59.91, 10.75, 20, 64500, "Nordic Broadband")
LISBON_6 = Site("2001:db8:2::/48", "PT", "Lisbon", 38.72, -9.14, 10, 64501, "Tagus Telecom")

SITES = (OSLO, BERGEN, LISBON, RENTED, CLOUD, AT_SEA, OSLO_6, LISBON_6)

Records = Iterable[tuple[str, Mapping[str, object]]]


class _Writer(MMDBWriter):
    """Writes a build time of the test's own choice, which MMDBWriter takes from the clock."""

    built = BUILT

    def _build_meta(self) -> dict[str, Any]:  # Any: as in what it overrides
        return {**super()._build_meta(), "build_epoch": self.built}


def write_file(
    path: Path,
    database_type: str,
    records: Records,
    *,
    built: int = BUILT,
    ip_version: int = 6,
) -> Path:
    """Write a MaxMind DB file.

    Args:
        path: Where.
        database_type: Such as ``GeoLite2-City``.
        records: Networks (CIDR) and what is to be found there.
        built: Build time, in seconds since 1970.
        ip_version: 4 for a file without IPv6 addresses.

    Returns:
        The path.
    """
    writer = _Writer(
        ip_version=ip_version,
        ipv4_compatible=ip_version == 6,
        database_type=database_type,
        languages=["en"],
        description="made up, for tests",
    )
    writer.built = built
    for network, record in records:
        writer.insert_network(IPSet([network]), cast("dict[str, Any]", dict(record)))
    writer.to_db_file(str(path))
    return path


def maxmind_city(path: Path, sites: Iterable[Site] = SITES, *, built: int = BUILT) -> Path:
    """A file as GeoLite2-City is."""
    return write_file(
        path, "GeoLite2-City", ((s.network, _nested_place(s)) for s in sites), built=built
    )


def maxmind_country(path: Path, sites: Iterable[Site] = SITES) -> Path:
    """A file as GeoLite2-Country is."""
    records = ((site.network, {"country": {"iso_code": site.country}}) for site in sites)
    return write_file(path, "GeoLite2-Country", records)


def maxmind_asn(path: Path, sites: Iterable[Site] = SITES, *, built: int = BUILT) -> Path:
    """A file as GeoLite2-ASN is."""
    return write_file(path, "GeoLite2-ASN", ((s.network, _operator(s)) for s in sites), built=built)


def maxmind_anonymous(
    path: Path, flags: Mapping[str, Iterable[str]], *, built: int = BUILT
) -> Path:
    """A file as GeoIP2-Anonymous-IP is.

    Args:
        path: Where.
        flags: By network, which of ``is_anonymous_vpn`` and so on are true there.
        built: Build time.
    """
    records = (
        (network, {"is_anonymous": True, **dict.fromkeys(names, True)})
        for network, names in flags.items()
    )
    return write_file(path, "GeoIP2-Anonymous-IP", records, built=built)


def dbip_city(path: Path, sites: Iterable[Site] = SITES) -> Path:
    """A file as DB-IP's City Lite is: nested as MaxMind's, without a radius."""
    records = []
    for site in sites:
        record = _nested_place(site)
        location = record.get("location")
        if isinstance(location, dict):
            location.pop("accuracy_radius", None)
        records.append((site.network, record))
    return write_file(path, "DBIP-City-Lite", records)


def dbip_asn(path: Path, sites: Iterable[Site] = SITES) -> Path:
    """A file as DB-IP's ASN Lite is."""
    records = ((site.network, _operator(site)) for site in sites)
    return write_file(path, "DBIP-ASN-Lite (compat=GeoLite2-ASN)", records)


def flat_city(path: Path, sites: Iterable[Site] = SITES) -> Path:
    """A city file as others repackage DB-IP's: flat, numbers as text."""
    records = (
        (
            site.network,
            {
                "country_code": site.country or "",
                "city": site.city or "",
                "latitude": "" if site.latitude is None else str(site.latitude),
                "longitude": "" if site.longitude is None else str(site.longitude),
            },
        )
        for site in sites
    )
    return write_file(path, "repackaged", records)


def _nested_place(site: Site) -> dict[str, object]:
    record: dict[str, object] = {"country": {"iso_code": site.country}}
    if site.city is not None:
        record["city"] = {"names": {"en": site.city}}
    if site.latitude is not None and site.longitude is not None:
        location: dict[str, object] = {"latitude": site.latitude, "longitude": site.longitude}
        if site.radius_km is not None:
            location["accuracy_radius"] = site.radius_km
        record["location"] = location
    return record


def _operator(site: Site) -> dict[str, object]:
    return {
        "autonomous_system_number": site.asn,
        "autonomous_system_organization": site.organisation,
    }
