"""Where the demo's people are: made-up networks, and the GeoIP files that know them.

The addresses are those that are set aside for measurements (RFC 2544): nobody's.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mmdb_writer import MMDBWriter
from netaddr import IPSet


@dataclass(frozen=True, slots=True)
class Place:
    """A network somewhere.

    Attributes:
        name: How the demo calls it.
        prefix: The first three parts of its addresses.
        country: ISO 3166-1 alpha-2.
        city: Which.
        latitude: Degrees.
        longitude: Degrees.
        asn: Autonomous system number.
        organisation: Who runs it.
    """

    name: str
    prefix: str
    country: str
    city: str
    latitude: float
    longitude: float
    asn: int
    organisation: str

    def address(self, host: int) -> str:
        """One of its addresses; ``host`` is from 1 to 254."""
        return f"{self.prefix}.{host}"


OSLO = Place("Oslo", "198.18.1", "NO", "Oslo", 59.91, 10.75, 64500, "Fjord Broadband")
BERGEN = Place("Bergen", "198.18.2", "NO", "Bergen", 60.39, 5.32, 64501, "Bryggen Fibre")
LISBON = Place("Lisbon", "198.18.3", "PT", "Lisbon", 38.72, -9.14, 64502, "Tagus Telecom")
SAO_PAULO = Place("São Paulo", "198.18.4", "BR", "São Paulo", -23.55, -46.63, 64503, "Paulista Net")
TOKYO = Place("Tokyo", "198.18.5", "JP", "Tokyo", 35.68, 139.69, 64504, "Sakura Net")
DATA_CENTRE = Place(
    "a data centre", "198.18.6", "DE", "Falkenstein", 50.48, 12.37, 64505, "Example Hosting GmbH"
)
BOTNET = Place("one address", "198.18.7", "US", "Dallas", 32.78, -96.80, 64506, "Prairie Cable")

PLACES = (OSLO, BERGEN, LISBON, SAO_PAULO, TOKYO, DATA_CENTRE, BOTNET)


def write_geoip(folder: Path) -> tuple[Path, Path]:
    """Write the databases that know these places: of cities, and of autonomous systems."""
    cities, systems = _writer("GeoLite2-City"), _writer("GeoLite2-ASN")
    for place in PLACES:
        network = IPSet([f"{place.prefix}.0/24"])
        cities.insert_network(
            network,
            cast(
                "dict[str, Any]",  # Any: as mmdb-writer wants it
                {
                    "country": {"iso_code": place.country},
                    "city": {"names": {"en": place.city}},
                    "location": {
                        "latitude": place.latitude,
                        "longitude": place.longitude,
                        "accuracy_radius": 20,
                    },
                },
            ),
        )
        systems.insert_network(
            network,
            {
                "autonomous_system_number": place.asn,
                "autonomous_system_organization": place.organisation,
            },
        )
    city_file, asn_file = folder / "cities.mmdb", folder / "systems.mmdb"
    cities.to_db_file(str(city_file))
    systems.to_db_file(str(asn_file))
    return city_file, asn_file


def _writer(database_type: str) -> MMDBWriter:
    return MMDBWriter(
        ip_version=6,
        ipv4_compatible=True,
        database_type=database_type,
        languages=["en"],
        description="made up, for the demo",
    )
