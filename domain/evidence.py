"""What can be told of a client from its address and its headers: networks, places, devices.

Looked up when the detector reads an event, never on the request path. Both are personal data.
"""

from typing import Protocol

import msgspec

from domain.client import ClientContext


class Network(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an address is, as far as the databases at hand know.

    Attributes:
        prefix: The /24 or /64 that it lies in (``domain.client.network_of``); None without address.
        version: 4 or 6: the two are remembered apart, since a client with both alternates.
        asn: Autonomous system number.
        as_org: Who runs it.
        country: ISO 3166-1 alpha-2.
        city: English name.
        latitude: Degrees.
        longitude: Degrees.
        radius_km: How far off the place may be.
        anonymous: Whether it is a VPN, a relay, a proxy or a Tor exit.
        hosting: Whether it is a data centre.
        satellite: Whether it is a satellite carrier, whose places mean nothing.
        epoch: Build time of the database that said so, in seconds since 1970; None where none did.
    """

    prefix: str | None = None
    version: int = 4
    asn: int | None = None
    as_org: str | None = None
    country: str | None = None
    city: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    radius_km: int = 0
    anonymous: bool = False
    hosting: bool = False
    satellite: bool = False
    epoch: int | None = None

    @property
    def is_elsewhere_by_design(self) -> bool:
        """Whether its place says nothing of where the person is."""
        return self.anonymous or self.hosting or self.satellite


class Device(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a client says it is: client hints first, then the user agent string.

    Attributes:
        platform: Such as ``Windows``, ``Android``; None where unknown.
        platform_version: As far as it is told; frozen user agents do not tell.
        form: ``desktop``, ``mobile``, ``tablet``, ``bot`` or ``other``.
        browser: Family, such as ``Firefox``; HTTP libraries have theirs (``curl``).
        browser_version: Major version, or None.
        engine: Such as ``Blink``, ``Gecko``, ``WebKit``, or None.
        model: Device model, where it is told.
        hinted: Whether client hints were sent.
        contradiction: How the user agent string contradicts the hints, or None.
    """

    platform: str | None = None
    platform_version: str | None = None
    form: str = "other"
    browser: str | None = None
    browser_version: int | None = None
    engine: str | None = None
    model: str | None = None
    hinted: bool = False
    contradiction: str | None = None

    @property
    def signature(self) -> str:
        """What stays when the browser updates itself; the model is left out, being told at times.

        >>> Device(platform="Windows", form="desktop", browser="Firefox", engine="Gecko").signature
        'Windows/desktop/Firefox/Gecko'
        """
        return "/".join((self.platform or "?", self.form, self.browser or "?", self.engine or "?"))


UNKNOWN_NETWORK = Network()
UNKNOWN_DEVICE = Device()


class NetworkLookup(Protocol):
    """Answers where an address is."""

    def network(self, ip: str | None) -> Network:
        """The network of a canonical address; what is not known stays unset. Never raises."""
        ...


class DeviceReader(Protocol):
    """Answers what a client says it is."""

    def device(self, client: ClientContext) -> Device:
        """The device of a client; what is not told stays unset. Never raises."""
        ...
