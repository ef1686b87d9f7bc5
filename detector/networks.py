"""How networks are remembered: by autonomous system, by place, and as ways out of the net."""

from domain.evidence import Network

RENTED = "rented:"
_PEOPLES_EXITS = frozenset({9009, 13335, 20940, 36183, 54113, 60068, 62041, 62240, 212238})
"""Autonomous systems that VPN apps and relays let people out through (WARP, iCloud Private Relay
and the large VPN brands), which no database need call anonymous."""


def asn_key(network: Network) -> str | None:
    """How an autonomous system is remembered; None where it is not known."""
    return None if network.asn is None else f"as{network.asn}"


def place_key(network: Network) -> str | None:
    """How a place is remembered; None where it is not known, or says nothing of the person."""
    if network.country is None or network.is_elsewhere_by_design:
        return None
    return f"{network.country}/{network.city or ''}"


def tunnel_key(network: Network) -> str | None:
    """How a way out of the net is remembered, machines for rent apart from what people take.

    None where it is an ordinary network.
    """
    if not network.is_elsewhere_by_design:
        return None
    name = asn_key(network) or network.prefix
    return f"{RENTED}{name}" if is_rented(network) else name


def is_rented(network: Network) -> bool:
    """Whether it is machines for rent, and not known as a way out that people take."""
    return network.hosting and not network.anonymous and network.asn not in _PEOPLES_EXITS
