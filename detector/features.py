"""The features of the risk score: what a sign-in shows, from the very special to the common.

Freeman et al., NDSS 2016, with the hierarchy and the weights of Wiefling et al.: an address lies in
an autonomous system, that in a country; a user agent is a browser and its version, on an operating
system and its version, on a class of device.
"""

from base64 import urlsafe_b64encode
from functools import lru_cache
from hashlib import blake2b

import msgspec

from detector.familiar import Counts, count_of, counted
from detector.observations import Observation

TOTAL = "all"
"""The key that counts every sign-in; its children are users."""
_REMEMBERED = (16, 12, 12, 16, 12, 8, 4)
"""How many values of each level a user is remembered with. Each has its own room: a telephone with
a new address every day does not push out the country that its owner was in last summer."""


class FeatureState(msgspec.Struct, frozen=True, array_like=True):
    """How often a value was seen at sign-in, by all users.

    Attributes:
        count: How often.
        children: How many different values were seen one level below it, where that is the most
            special level (or, for ``TOTAL``, users).
    """

    count: int = 0
    children: int = 0


class Features(msgspec.Struct, frozen=True, array_like=True):
    """What one sign-in shows. Each chain goes from the most special to the most common."""

    address: tuple[str, str, str]
    agent: tuple[str, str, str, str]

    @property
    def keys(self) -> tuple[str, ...]:
        """All values, as keys."""
        return (*self.address, *self.agent)


class UserFeatures(msgspec.Struct, frozen=True, array_like=True):
    """How often one user's sign-ins showed each value.

    Attributes:
        sign_ins: How many are counted. A number of its own: what was seen long ago is forgotten by
            the levels, one value at a time, and still belongs to the whole.
        levels: Of each level of ``Features.keys``, the values and how often each was seen.
    """

    sign_ins: int = 0
    levels: tuple[Counts, ...] = ((), (), (), (), (), (), ())

    def counts(self, features: Features) -> tuple[int, ...]:
        """How often each value of a sign-in was seen before."""
        pairs = zip(self.levels, features.keys, strict=True)
        return tuple([count_of(level, key) for level, key in pairs])


NO_FEATURES = UserFeatures()


class FeatureCounts(msgspec.Struct, frozen=True):
    """What all users' sign-ins say of one sign-in's features, before it is counted itself.

    Attributes:
        features: What they are about.
        total: Sign-ins of all users.
        users: Users who ever signed in.
        address: For each level of the address, most special first.
        agent: For each level of the user agent.
    """

    features: Features
    total: int
    users: int
    address: tuple[FeatureState, ...]
    agent: tuple[FeatureState, ...]


def features_of(seen: Observation) -> Features:
    """The features of a sign-in. What is not known is a value of its own.

    An IPv6 address counts as its /64, which is what an IPv4 address is: one line's.
    """
    network, device, names = seen.network, seen.device, seen.names
    return Features(
        (
            f"ip:{names.address}",
            f"asn:{network.asn}"
            if network.asn is not None
            else f"range:{range_of(network.prefix)}",
            f"country:{network.country or '?'}",
        ),
        (
            f"ua:{_shortened(names.agent)}",
            f"browser:{device.browser or '?'} {device.browser_version or '?'}",
            f"os:{device.platform or '?'} {device.platform_version or '?'}",
            f"form:{device.form}",
        ),
    )


@lru_cache(maxsize=8192)
def range_of(prefix: str | None) -> str:
    """The /16 (of IPv6, the /32) that stands for an autonomous system where none is known.

    >>> range_of("203.0.113.0/24"), range_of("2001:db8:1:2::/64"), range_of(None)
    ('203.0', '2001:db8', '?')
    """
    if prefix is None:
        return "?"
    mark = ":" if ":" in prefix else "."
    return mark.join(prefix.split(mark, 2)[:2])


@lru_cache(maxsize=4096)
def _shortened(user_agent: str) -> str:
    """Sixteen characters for up to 512: they are kept many times over."""
    return urlsafe_b64encode(blake2b(user_agent.encode(), digest_size=12).digest()).decode()


def with_features(own: UserFeatures, features: Features) -> UserFeatures:
    """A user's own counts after one more sign-in."""
    levels = zip(own.levels, features.keys, _REMEMBERED, strict=True)
    return UserFeatures(
        own.sign_ins + 1, tuple([counted(level, key, 1, limit) for level, key, limit in levels])
    )
