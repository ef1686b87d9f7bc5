"""What is known of clients, by the settings: GeoIP files and user agents, without a database."""

from msgspec.structs import replace

from detector.simulation.evidence import Evidence
from domain.evidence import Network
from infra.geoip import GeoIp
from infra.hosting_networks import is_hosting, is_satellite
from infra.settings import Settings
from infra.user_agents import UserAgents


def geoip(settings: Settings) -> GeoIp:
    """The GeoIP files that the settings name."""
    return GeoIp(settings.geoip_city, settings.geoip_asn, settings.geoip_anonymous)


def evidence_of_files(settings: Settings) -> Evidence:
    """Tells what is known of the clients of request files."""
    return Evidence(UserAgents(), geoip(settings), classified)


def classified(network: Network) -> Network:
    """The network, marked as hosting or satellite where its operator is known for that."""
    known = network.asn, network.as_org
    return replace(
        network,
        hosting=network.hosting or is_hosting(*known),
        satellite=network.satellite or is_satellite(*known),
    )
