"""One observation beside what is known: the questions that rules ask, answered in one place."""

from functools import cached_property

from detector.crowd_context import CrowdContext
from detector.familiar import knows
from detector.observations import Observation
from detector.profile import Anchor, FamilyTrace, UserProfile
from detector.travel import Travel, travel_between
from domain.evidence import Network

_LEARNING_SIGN_INS = 3
_LEARNING_S = 5 * 86400.0


def asn_key(network: Network) -> str | None:
    """How an autonomous system is remembered; None where it is not known."""
    return None if network.asn is None else f"as{network.asn}"


def place_key(network: Network) -> str | None:
    """How a place is remembered; None where it is not known, or says nothing of the person."""
    if network.country is None or network.is_elsewhere_by_design:
        return None
    return f"{network.country}/{network.city or ''}"


class Sighting:
    """What user rules judge.

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

    # ------------------------------------------------------------------------ the user's habits

    @cached_property
    def is_settled(self) -> bool:
        """Whether the user is known well enough for something new to mean anything.

        Three sign-ins and five days (detection.md).
        """
        profile = self.profile
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

    # ---------------------------------------------------------------------- the family's client

    @cached_property
    def device_changed(self) -> bool:
        """Whether the family's token comes from another device than before.

        Device cookies decide where both have one; else the signature, and the model where both
        tell one. A version is no part of it, so an update changes nothing.
        """
        trace, device = self.trace, self.seen.device
        if trace is None:
            return False
        cookie = self.seen.client.device_key
        if trace.cookie is not None and cookie is not None:
            return trace.cookie != cookie
        if trace.device != device.signature:
            return True
        return trace.model is not None and device.model is not None and trace.model != device.model

    @cached_property
    def cookie_was_lost(self) -> bool:
        """Whether the family has a device cookie that this request came without."""
        return (
            self.trace is not None
            and self.trace.cookie is not None
            and self.seen.client.device_key is None
        )

    @cached_property
    def hints_were_lost(self) -> bool:
        """Whether the family always sent client hints, and this request none."""
        return self.trace is not None and self.trace.hinted and not self.seen.device.hinted

    @cached_property
    def network_changed(self) -> bool:
        """Whether the family is in another network than before, over the same IP version.

        By autonomous system where both are known, else by prefix.
        """
        anchor, network = self.family_anchor, self.seen.network
        if anchor is None or network.prefix is None:
            return False
        if anchor.asn is not None and network.asn is not None:
            return anchor.asn != network.asn
        return anchor.prefix != network.prefix

    @cached_property
    def country_changed(self) -> bool:
        """Whether the family is in another country than before."""
        anchor = self.latest_family_anchor
        country = self.seen.network.country
        return (
            anchor is not None
            and None not in {anchor.country, country}
            and (anchor.country != country)
        )

    @cached_property
    def is_quiet(self) -> bool:
        """Whether this is the very client that the family was last seen with, where it was then.

        Same autonomous system and same device: never an alert by itself (detection.md).
        """
        anchor = self.family_anchor
        return (
            anchor is not None
            and not self.network_changed
            and not self.device_changed
            and not self.cookie_was_lost
            and not self.hints_were_lost
            and self.seen.device.contradiction is None
        )

    # ------------------------------------------------------------------------------- the places

    @property
    def family_anchor(self) -> Anchor | None:
        """Where the family was last, over the same IP version."""
        return None if self.trace is None else self.trace.anchor(self.seen.network.version)

    @property
    def latest_family_anchor(self) -> Anchor | None:
        """Where the family was last, over either IP version."""
        return None if self.trace is None else _latest(self.trace.anchor4, self.trace.anchor6)

    @cached_property
    def family_travel(self) -> Travel | None:
        """The way from where the family was last."""
        return travel_between(self.latest_family_anchor, self.seen.network, self.seen.second)

    @cached_property
    def user_travel(self) -> Travel | None:
        """The way from where the user was last on this device; on any, where it is a new one."""
        anchor = self.profile.anchor(self.seen.device.signature, self.seen.network.version)
        return travel_between(anchor, self.seen.network, self.seen.second)


def _latest(one: Anchor | None, other: Anchor | None) -> Anchor | None:
    if one is None or other is None:
        return one or other
    return one if one.second >= other.second else other
