"""One observation beside what is known of its user: what of it they have never shown before."""

from functools import cached_property

from detector.crowd_context import CrowdContext
from detector.familiar import knows
from detector.features import range_of
from detector.networks import RENTED, asn_key, place_key
from detector.observations import Observation
from detector.profile import FamilyTrace, UserProfile
from detector.risk_score import RiskScore, risk_score
from detector.travel import Travel, travel_between

_LEARNING_SIGN_INS = 3
_LEARNING_S = 5 * 86400.0
_LEARNING_REFRESHES = 15


class Habits:
    """What is asked about the user. A family in use is a part of what is known of its user.

    Attributes:
        seen: The observation.
        profile: What was known of the user before it.
        trace: What was known of the family before it; None at sign-in, and where it was forgotten.
        crowd: What the crowd's counts say of a sign-in; None for everything else.
    """

    def __init__(
        self,
        seen: Observation,
        profile: UserProfile,
        trace: FamilyTrace | None,
        crowd: CrowdContext | None,
    ) -> None:
        """Put them side by side."""
        self.seen = seen
        self.profile = profile
        self.trace = trace
        self.crowd = crowd

    @cached_property
    def is_settled(self) -> bool:
        """Whether the user is known well enough for something new to mean anything.

        Three sign-ins and five days (detection.md), or one session that was in use for as long.
        """
        profile, trace = self.profile, self.trace
        if (
            trace is not None
            and trace.refreshes >= _LEARNING_REFRESHES
            and self.seen.second - trace.started >= _LEARNING_S
        ):
            return True
        return (
            profile.sign_ins >= _LEARNING_SIGN_INS
            and self.seen.second - profile.first_seen >= _LEARNING_S
        )

    @cached_property
    def asn_is_new(self) -> bool:
        """Whether neither user nor family was ever in that autonomous system; unknown is not new.

        Without an ASN the network's prefix stands for it.
        """
        asn = asn_key(self.seen.network)
        if asn is None:
            return self.prefix_is_new
        return not knows(self.profile.asns, asn) and not (
            self.trace is not None and knows(self.trace.asns, asn)
        )

    @cached_property
    def carrier_is_new(self) -> bool:
        """The same for a sign-in, where a carrier's wider range stands for an unknown ASN.

        Between two sign-ins lie weeks, in which lines get new addresses.
        """
        network = self.seen.network
        if network.asn is not None or not self.prefix_is_new:
            return self.asn_is_new
        here = range_of(network.prefix)
        return all(range_of(known.key) != here for known in self.profile.prefixes)

    @cached_property
    def prefix_is_new(self) -> bool:
        """Whether neither user nor family was ever in that network."""
        prefix = self.seen.network.prefix
        return not knows(self.profile.prefixes, prefix) and not (
            self.trace is not None and knows(self.trace.prefixes, prefix)
        )

    @cached_property
    def country_is_new(self) -> bool:
        """Whether the user was never in that country."""
        return not knows(self.profile.countries, self.seen.network.country)

    @cached_property
    def place_is_new(self) -> bool:
        """Whether the user was never in that city."""
        return not knows(self.profile.places, place_key(self.seen.network))

    @cached_property
    def device_is_new(self) -> bool:
        """Whether the user never had such a device. A known device cookie settles it."""
        cookie = self.seen.client.device_key
        if cookie is not None and knows(self.profile.cookies, cookie):
            return False
        return not knows(self.profile.devices, self.seen.device.signature)

    @cached_property
    def cookie_is_known(self) -> bool:
        """Whether the user had that device cookie before."""
        cookie = self.seen.client.device_key
        return cookie is not None and knows(self.profile.cookies, cookie)

    @cached_property
    def cookie_is_missed(self) -> bool:
        """Whether it looks like a device of the user's and has none of their device cookies.

        A private window does, and a browser that says it is theirs.
        """
        return (
            bool(self.profile.cookies)
            and not self.cookie_is_known
            and knows(self.profile.devices, self.seen.device.signature)
        )

    @cached_property
    def place_is_familiar(self) -> bool:
        """Whether the user was in that very city before."""
        return self.seen.network.city is not None and not self.place_is_new

    @cached_property
    def risk_score(self) -> RiskScore | None:
        """The published score of a sign-in; None for a first one, and for everything else."""
        if self.crowd is None:
            return None
        return risk_score(self.crowd.counts, self.profile.features)

    @property
    def uses_tunnels(self) -> bool:
        """Whether the user is known to come through VPNs, relays, data centres or satellites."""
        return bool(self.profile.tunnels)

    @property
    def uses_rented(self) -> bool:
        """Whether the user is known to come through data centres."""
        return any(known.key.startswith(RENTED) for known in self.profile.tunnels)

    @cached_property
    def user_travel(self) -> Travel | None:
        """The way from where the user was last on this device; on any, where it is a new one."""
        anchor = self.profile.anchor(self.seen.device.signature, self.seen.network.version)
        return travel_between(anchor, self.seen.network, self.seen.second)
