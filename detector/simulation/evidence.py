"""What is known of the clients of a request file: told by the file, else looked up."""

from collections.abc import Callable
from functools import lru_cache

from detector.simulation.requests import Geo
from domain.client import ClientContext, network_of
from domain.evidence import Device, DeviceReader, Network, NetworkLookup

_IPV6_MARK = ":"
_TOLD_RADIUS_KM = 25
_CACHED = 10_000


class Evidence:
    """Devices and networks of a request file."""

    def __init__(
        self,
        devices: DeviceReader,
        networks: NetworkLookup,
        classify: Callable[[Network], Network],
    ) -> None:
        """Ask these.

        Args:
            devices: Tells devices from user agents and hints.
            networks: Tells where addresses are, for requests that do not say.
            classify: Marks what is hosting or satellite, for requests that do.
        """
        self._devices = devices
        self._networks = networks
        self._classify = classify
        self._told = lru_cache(maxsize=_CACHED)(self._as_told)

    def device(self, client: ClientContext) -> Device:
        """What a client says it is."""
        return self._devices.device(client)

    def network(self, ip: str | None, geo: Geo | None) -> Network:
        """Where an address is: as the file says, else as the databases do."""
        return self._networks.network(ip) if geo is None else self._told(ip, geo)

    def _as_told(self, ip: str | None, geo: Geo) -> Network:
        return self._classify(
            Network(
                prefix=None if ip is None else network_of(ip),
                version=6 if ip is not None and _IPV6_MARK in ip else 4,
                asn=geo.asn,
                as_org=geo.as_org,
                country=geo.country,
                city=geo.city,
                latitude=geo.lat,
                longitude=geo.lon,
                radius_km=_TOLD_RADIUS_KM if geo.radius_km is None else geo.radius_km,
                anonymous=geo.anonymous,
                hosting=geo.hosting,
            )
        )
