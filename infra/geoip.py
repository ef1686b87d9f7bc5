"""Looks networks up in GeoIP files: ``domain.evidence.NetworkLookup``."""

import asyncio
from functools import lru_cache
from pathlib import Path

from domain.client import canonical_ip, network_of
from domain.evidence import UNKNOWN_NETWORK, Network
from infra.geoip_file import OpenFile, WatchedFile
from infra.geoip_records import ANONYMITY, OPERATORS, PLACES, Anonymity, Operator, Place
from infra.hosting_networks import is_hosting, is_satellite

_CACHED = 10_000
_CHECK_EVERY_S = 5.0
_NO_PLACE, _NO_OPERATOR, _NO_ANONYMITY = Place(), Operator(), Anonymity()


class _Databases:
    """The files in use at one time, and the answers that they gave.

    All of it is replaced at once, so that no look-up of a moment ago leaves an old answer behind.
    """

    def __init__(
        self,
        places: OpenFile[Place] | None,
        operators: OpenFile[Operator] | None,
        anonymity: OpenFile[Anonymity] | None,
    ) -> None:
        self._places = places
        self._operators = operators
        self._anonymity = anonymity
        self.network = lru_cache(maxsize=_CACHED)(self._network)

    def _network(self, ip: str) -> Network:
        address = canonical_ip(ip)
        if address is None:
            return UNKNOWN_NETWORK
        place = self._places.answer(address) if self._places else None
        operator = self._operators.answer(address) if self._operators else None
        anonymity = self._anonymity.answer(address) if self._anonymity else None
        epochs = [
            file.epoch
            for file, answer in (
                (self._places, place),
                (self._operators, operator),
                (self._anonymity, anonymity),
            )
            if file is not None and answer is not None
        ]
        place, operator = place or _NO_PLACE, operator or _NO_OPERATOR
        known = operator.asn, operator.organisation
        if self._anonymity is None:
            anonymity = Anonymity(hosting=is_hosting(*known))
        anonymity = anonymity or _NO_ANONYMITY
        return Network(
            prefix=network_of(address),
            version=6 if ":" in address else 4,
            asn=operator.asn,
            as_org=operator.organisation,
            country=place.country,
            city=place.city,
            latitude=place.latitude,
            longitude=place.longitude,
            radius_km=place.radius_km,
            anonymous=anonymity.anonymous,
            hosting=anonymity.hosting,
            satellite=is_satellite(*known),
            epoch=max(epochs, default=None),
        )


class GeoIp:
    """Networks by address, from up to three files; each may be absent.

    Reads the files when it is made, which takes as long as copying them.

    Args:
        city: A city or country file, MaxMind's or DB-IP's.
        asn: An ASN file.
        anonymous: An anonymous-IP file. Without it, known organisations tell what is hosting.
    """

    def __init__(
        self,
        city: Path | None = None,
        asn: Path | None = None,
        anonymous: Path | None = None,
    ) -> None:
        self._places = WatchedFile(city, PLACES)
        self._operators = WatchedFile(asn, OPERATORS)
        self._anonymity = WatchedFile(anonymous, ANONYMITY)
        self._databases = _Databases(None, None, None)
        self.refresh()

    def network(self, ip: str | None) -> Network:
        """The network of a canonical address; what is not known stays unset. Never raises."""
        return UNKNOWN_NETWORK if ip is None else self._databases.network(ip)

    def refresh(self) -> None:
        """Use the files that have changed. Blocks while one is copied: not for an event loop."""
        changed = [
            self._places.refresh(),
            self._operators.refresh(),
            self._anonymity.refresh(),
        ]
        if any(changed):
            self._databases = _Databases(
                self._places.current, self._operators.current, self._anonymity.current
            )

    def states(self) -> dict[str, str]:
        """What is there of each file, for ``/readyz``."""
        return {
            "geoip_city": self._places.state,
            "geoip_asn": self._operators.state,
            "geoip_anonymous": self._anonymity.state,
        }

    async def run(self, every_s: float = _CHECK_EVERY_S) -> None:
        """Look for changed files until cancelled.

        Args:
            every_s: Seconds between two looks.
        """
        while True:
            await asyncio.sleep(every_s)
            await asyncio.to_thread(self.refresh)
