"""What is known of the client that made a request, and when two requests come from the same one."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import msgspec

USER_AGENT_MAX_CHARS = 512
"""Longer user agents are cut before anything is stored (detection.md: cut at 512 characters)."""

_IPV4_BITS = 2**32 - 1
_IPV4_PREFIX_BITS = 24
_IPV6_PREFIX_BITS = 64
_IPV6_SITE_BITS = 48
_NAT64 = ip_network("64:ff9b::/96")
_DROP_DIGITS = str.maketrans("", "", "0123456789._")


class ClientContext(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who seems to be calling. Personal data: sealed in events, in clear only in projections.

    Attributes:
        ip: Canonical address text, or None where it is unknown.
        user_agent: The User-Agent header, cut to 512 characters.
        hints: ``Sec-CH-UA*`` headers by lower-case name; a missing hint is unknown, not a mismatch.
        device_key: SHA-256 (base64url, 22 characters) of the device cookie, where there is one.
    """

    ip: str | None = None
    user_agent: str | None = None
    hints: dict[str, str] = {}
    device_key: str | None = None


def canonical_ip(text: str) -> str | None:
    """One spelling for one address: no zone id, no port, IPv4 within IPv6 as IPv4.

    IPv4 is mapped (RFC 4291 §2.5.5.2) or came through a NAT64 (RFC 6052 §2.1).

    Args:
        text: An address as a socket or a proxy header spells it: ``::ffff:1.2.3.4``,
            ``fe80::1%eth0``, ``[2001:db8::1]:443``, ``192.0.2.1:8080``.

    Returns:
        Canonical text, or None where it is not an IP address.
    """
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address in _NAT64:
            address = IPv4Address(int(address) & _IPV4_BITS)
    return str(address)


@lru_cache(maxsize=8192)
def network_of(ip: str) -> str:
    """The network a client is taken to be in: /24, or /64 for IPv6 (privacy addresses rotate).

    >>> network_of("203.0.113.77"), network_of("2001:db8::1:2:3:4")
    ('203.0.113.0/24', '2001:db8::/64')
    """
    address = ip_address(ip)
    bits = _IPV4_PREFIX_BITS if isinstance(address, IPv4Address) else _IPV6_PREFIX_BITS
    return _cut(address, bits)


def site_of(ip: str) -> str | None:
    """The /48 of an IPv6 address, which is what one customer may have; None for IPv4.

    >>> site_of("2001:db8:1:2::3"), site_of("203.0.113.77")
    ('2001:db8:1::/48', None)
    """
    address = ip_address(ip)
    return None if isinstance(address, IPv4Address) else _cut(address, _IPV6_SITE_BITS)


def _cut(address: IPv4Address | IPv6Address, bits: int) -> str:
    host_bits = address.max_prefixlen - bits
    prefix = type(address)(int(address) >> host_bits << host_bits)
    return f"{prefix}/{bits}"


@lru_cache(maxsize=8192)
def _browser_signature(user_agent: str) -> str:
    """The user agent without its version numbers, so that an auto-update is not another client."""
    return user_agent.translate(_DROP_DIGITS)


def same_client(one: ClientContext, other: ClientContext) -> bool:
    """Whether two requests come from the same client, for the honest-retry rule (design §5).

    A device key decides where either side has one. Without, the network prefix and the user
    agent less its version numbers must both agree.
    """
    if one.device_key is not None or other.device_key is not None:
        return one.device_key == other.device_key
    if one.ip is None or other.ip is None:
        return False
    return network_of(one.ip) == network_of(other.ip) and _browser_signature(
        one.user_agent or ""
    ) == _browser_signature(other.user_agent or "")
