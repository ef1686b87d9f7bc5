"""One observation beside what is known: the questions that rules ask, answered in one place."""

from enum import Enum
from functools import cached_property

from detector.crowd_context import CrowdContext
from detector.device_change import HARD, OTHER_COOKIE, differences
from detector.familiar import find, knows
from detector.features import range_of
from detector.findings import Fact
from detector.observations import Observation
from detector.profile import Anchor, FamilyTrace, UserProfile
from detector.risk_score import RiskScore, risk_score
from detector.travel import Travel, travel_between
from domain.evidence import Network

_LEARNING_SIGN_INS = 3
_LEARNING_S = 5 * 86400.0
_LEARNING_REFRESHES = 15
_COOKIELESS_REFRESHES = 3


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


RENTED = "rented:"
_PEOPLES_EXITS = frozenset({9009, 13335, 20940, 36183, 54113, 60068, 62041, 62240, 212238})
"""Autonomous systems that VPN apps and relays let people out through (WARP, iCloud Private Relay
and the large VPN brands), which no database need call anonymous."""


def is_rented(network: Network) -> bool:
    """Whether it is machines for rent, and not known as a way out that people take."""
    return network.hosting and not network.anonymous and network.asn not in _PEOPLES_EXITS


class Change(Enum):
    """What is new about a family's client: one rule judges one change, the first of these."""

    DEVICE = "device"
    """It is another device, wherever it is."""
    TUNNEL = "tunnel"
    """The same device comes through a network that tells nothing of where it is."""
    COUNTRY = "country"
    """The same device is in another country."""
    NETWORK = "network"
    """The same device is in another network."""
    CLIENT = "client"
    """The same device is where it was, and tells of itself otherwise than before."""
    NONE = "none"


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

    # ---------------------------------------------------------------------- the family's client

    @cached_property
    def change(self) -> Change:
        """What is new about the family's client."""
        if self.trace is None:
            return Change.NONE
        if self.device_changed:
            return Change.DEVICE
        if self.network_changed:
            if self.seen.network.is_elsewhere_by_design:
                return Change.TUNNEL
            return Change.COUNTRY if self.country_changed else Change.NETWORK
        if (
            self.cookie_was_lost
            or self.hints_were_lost
            or self.contradiction_is_new
            or self.device_differences
        ):
            return Change.CLIENT
        return Change.NONE

    @cached_property
    def device_differences(self) -> tuple[Fact, ...]:
        """What tells the device from the family's, heaviest first.

        A device cookie that matches settles that it is the same, whatever the string says; one
        that does not settles the contrary.
        """
        trace, device = self.trace, self.seen.device
        if trace is None:
            return ()
        cookie = self.seen.client.device_key
        if cookie is not None and cookie == trace.cookie:
            return ()
        told = differences(trace.device, trace.model, device, hinted=trace.hinted)
        if cookie is None or trace.cookie is None:
            return told
        return (Fact("other_device_cookie", OTHER_COOKIE), *told)

    @property
    def device_changed(self) -> bool:
        """Whether the family's token comes from another device than before."""
        return any(fact.weight >= HARD for fact in self.device_differences)

    @property
    def cookie_matches(self) -> bool:
        """Whether the family's device cookie came along."""
        return (
            self.trace is not None
            and self.trace.cookie is not None
            and self.trace.cookie == self.seen.client.device_key
        )

    @property
    def cookie_was_lost(self) -> bool:
        """Whether this request came without the cookie that came with all before."""
        return (
            self.trace is not None
            and self.trace.cookie is not None
            and self.trace.keeps_cookie
            and self.seen.client.device_key is None
        )

    @property
    def cookie_is_strange(self) -> bool:
        """Whether a family that has done without sends a cookie that its user never had.

        The first refreshes bring the cookie that the sign-in was answered with.
        """
        cookie = self.seen.client.device_key
        return (
            self.trace is not None
            and self.trace.cookie is None
            and self.trace.refreshes >= _COOKIELESS_REFRESHES
            and cookie is not None
            and not knows(self.profile.cookies, cookie)
        )

    @property
    def contradiction_is_new(self) -> bool:
        """Whether the user agent contradicts its hints, as the family's never did."""
        return (
            self.seen.device.contradiction is not None
            and self.trace is not None
            and not self.trace.contradicts
        )

    @property
    def majors_back(self) -> int:
        """By how many major versions the browser is older than the family's has been."""
        trace, now = self.trace, self.seen.device.browser_version
        if trace is None or trace.browser_version is None or now is None:
            return 0
        return max(0, trace.browser_version - now)

    @property
    def hints_were_lost(self) -> bool:
        """Whether the family always sent client hints, and this request none."""
        return self.trace is not None and self.trace.hinted and not self.seen.device.hinted

    @cached_property
    def network_changed(self) -> bool:
        """Whether the family is in another network than before.

        By autonomous system where both are known, else by prefix; over the same IP version, where
        it has been seen on that, for the two may come from different carriers.
        """
        network = self.seen.network
        if network.prefix is None:
            return False
        anchor = self.family_anchor
        if anchor is None:
            other = self.latest_family_anchor
            asns = {None, network.asn if other is None else other.asn, network.asn}
            return len(asns) > 2  # noqa: PLR2004 - None and two that differ
        if anchor.asn is not None and network.asn is not None:
            return anchor.asn != network.asn
        return anchor.prefix != network.prefix

    @property
    def prefix_changed(self) -> bool:
        """Whether the family's client is in another /24 or /64; another IP version is one too."""
        anchor = self.family_anchor
        return anchor is None or anchor.prefix != self.seen.network.prefix

    @cached_property
    def country_changed(self) -> bool:
        """Whether the family is in another country than where it was last."""
        anchor, network = self.ground, self.seen.network
        if anchor is None or network.country is None or network.is_elsewhere_by_design:
            return False
        return anchor.country is not None and anchor.country != network.country

    @cached_property
    def is_quiet(self) -> bool:
        """Whether this is the very client that the family was last seen with, where it was then.

        Same autonomous system and same device: never an alert by itself (detection.md).
        """
        trace, seen = self.trace, self.seen
        if trace is None or self.family_anchor is None or self.network_changed:
            return False
        return (
            trace.device == seen.device.signature
            and trace.cookie == seen.client.device_key
            and seen.device.contradiction is None
            and not self.hints_were_lost
            and trace.model in {None, seen.device.model}
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
    def ground(self) -> Anchor | None:
        """Where the family was last in a place that is known, else the user on this device."""
        trace = self.trace
        if trace is None:
            return None
        grounded = [
            anchor
            for anchor in (trace.anchor4, trace.anchor6)
            if anchor is not None and anchor.country is not None
        ]
        if grounded:
            return max(grounded, key=lambda anchor: anchor.second)
        return self.profile.anchor(self.seen.device.signature, self.seen.network.version)

    @property
    def uses_tunnels(self) -> bool:
        """Whether the user is known to come through VPNs, relays, data centres or satellites."""
        return bool(self.profile.tunnels)

    @property
    def uses_rented(self) -> bool:
        """Whether the user is known to come through data centres."""
        return any(known.key.startswith(RENTED) for known in self.profile.tunnels)

    @cached_property
    def family_travel(self) -> Travel | None:
        """The way from where the family was last."""
        return travel_between(self.ground, self.seen.network, self.seen.second)

    @property
    def was_vouched_for(self) -> bool:
        """Whether the user proved themself after the family had been in this network."""
        trace, network = self.trace, self.seen.network
        if trace is None:
            return False
        asn = asn_key(network)
        known = find(trace.asns, asn) if asn else find(trace.prefixes, network.prefix or "")
        return known is not None and known.first <= trace.vouched_at

    @cached_property
    def user_travel(self) -> Travel | None:
        """The way from where the user was last on this device; on any, where it is a new one."""
        anchor = self.profile.anchor(self.seen.device.signature, self.seen.network.version)
        return travel_between(anchor, self.seen.network, self.seen.second)


def _latest(one: Anchor | None, other: Anchor | None) -> Anchor | None:
    if one is None or other is None:
        return one or other
    return one if one.second >= other.second else other
