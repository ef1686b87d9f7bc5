"""The features of the risk score: what a sign-in shows, from the very special to the common.

Freeman et al., NDSS 2016, with the hierarchy and the weights of Wiefling et al.: an address lies in
an autonomous system, that in a country; a user agent is a browser and its version, on an operating
system and its version, on a class of device.
"""

import msgspec

from detector.familiar import Counts, counted
from detector.observations import Observation

TOTAL = "all"
"""The key that counts every sign-in; its children are users."""
_REMEMBERED = 64


class FeatureState(msgspec.Struct, frozen=True, array_like=True):
    """How often a value was seen at sign-in, by all users.

    Attributes:
        count: How often.
        children: How many different values were seen one level below it.
    """

    count: int = 0
    children: int = 0


class Features(msgspec.Struct, frozen=True):
    """What one sign-in shows. Each chain goes from the most special to the most common."""

    address: tuple[str, str, str]
    agent: tuple[str, str, str, str]

    @property
    def keys(self) -> tuple[str, ...]:
        """All values, as keys."""
        return (*self.address, *self.agent)


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
    """The features of a sign-in. What is not known is a value of its own."""
    network, device = seen.network, seen.device
    return Features(
        (
            f"ip:{seen.client.ip or '?'}",
            f"asn:{network.asn if network.asn is not None else '?'}",
            f"country:{network.country or '?'}",
        ),
        (
            f"ua:{seen.client.user_agent or '?'}",
            f"browser:{device.browser or '?'} {device.browser_version or '?'}",
            f"os:{device.platform or '?'} {device.platform_version or '?'}",
            f"form:{device.form}",
        ),
    )


def with_features(counts: Counts, features: Features) -> Counts:
    """A user's own counts after one more sign-in."""
    for key in features.keys:
        counts = counted(counts, key, 1, _REMEMBERED)
    return counts
