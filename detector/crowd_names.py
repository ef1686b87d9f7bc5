"""What networks and clients are called where many users are counted together.

Such counts are about no one user, so no erasure takes them along. They need to tell networks,
addresses and user agents apart and never to name them: in the detector's store each goes by a keyed
hash. Rules get names in clear, for what they tell of one user's event, from the event itself.
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b

import msgspec

from domain.client import ClientContext
from domain.evidence import Device, Network

_DIGEST_BYTES = 12
_IPV6 = 6


class CrowdNames(msgspec.Struct, frozen=True):
    """What one event's client is called among many.

    Attributes:
        network: Its network's prefix; None where that is unknown.
        address: Its address; of IPv6 its /64, which is one line's as an IPv4 address is.
        agent: Its user agent.
        origin: Its network together with its device.
    """

    network: str | None
    address: str
    agent: str
    origin: str


Conceal = Callable[[str], str]
"""A name that says nothing, and always the same one for a text."""


def in_clear(text: str) -> str:
    """The text itself: for the player, whose users are in a file, and for a back-test."""
    return text


def concealed_with(key: bytes) -> Conceal:
    """Names by keyed BLAKE2b (RFC 7693 §2.9): sixteen characters each.

    Args:
        key: Up to 64 bytes. Whoever has it can try all addresses that there are.
    """

    @lru_cache(maxsize=8192)
    def conceal(text: str) -> str:
        digest = blake2b(text.encode(), digest_size=_DIGEST_BYTES, key=key).digest()
        return urlsafe_b64encode(digest).decode()

    return conceal


def crowd_names(
    client: ClientContext, network: Network, device: Device, conceal: Conceal
) -> CrowdNames:
    """What a client is called among many."""
    prefix = network.prefix
    address = prefix if network.version == _IPV6 else client.ip
    return CrowdNames(
        network=None if prefix is None else conceal(prefix),
        address="?" if address is None else conceal(address),
        agent="?" if client.user_agent is None else conceal(client.user_agent),
        origin=conceal(f"{prefix}|{client.device_key or device.signature}"),
    )
