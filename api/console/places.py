"""Where a client is and what it is, as people say it."""

from dataclasses import dataclass

from api.ports import Services
from domain.client import ClientContext, network_of
from domain.events.personal import Sealed
from domain.evidence import Network


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """A client in words; None where nothing is known.

    Attributes:
        place: City and country.
        network: Who runs its network.
        prefix: The /24 or /64 around its address.
        ip: Its address.
        device: Such as ``Firefox on Linux``.
        user_agent: As it was sent.
        warning: What its network is known for, such as ``data centre``.
    """

    place: str | None
    network: str | None
    prefix: str | None
    ip: str | None
    device: str | None
    user_agent: str | None
    warning: str | None

    @property
    def where(self) -> str:
        """The place, else the network, else the address."""
        return self.place or self.network or self.ip or "an unknown place"

    @property
    def what(self) -> str:
        """The device."""
        return self.device or "an unknown device"


def whereabouts(services: Services, client: ClientContext | Sealed | None) -> Whereabouts | None:
    """What is known of a client; None where it was erased or never told."""
    if not isinstance(client, ClientContext):
        return None
    network = services.networks.network(client.ip)
    place = ", ".join(each for each in (network.city, network.country) if each) or None
    warning = "data centre" if network.hosting else "anonymiser" if network.anonymous else None
    return Whereabouts(
        place=place,
        network=provider_of(network),
        prefix=network_of(client.ip) if client.ip else None,
        ip=client.ip,
        device=services.devices.describe(client.user_agent, client.hints),
        user_agent=client.user_agent,
        warning=warning,
    )


def provider_of(network: Network) -> str | None:
    """Who runs a network, with its number where that is known."""
    if network.asn is None:
        return network.as_org
    return f"{network.as_org} (AS{network.asn})" if network.as_org else f"AS{network.asn}"
