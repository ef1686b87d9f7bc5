"""One observation beside what is known of its family: whether its client is still the same."""

from enum import Enum
from functools import cached_property

from detector.device_change import HARD, OTHER_COOKIE, differences
from detector.familiar import find, knows
from detector.findings import Fact
from detector.habits import Habits
from detector.networks import asn_key
from detector.profile import Anchor
from detector.travel import Travel, travel_between

_COOKIELESS_REFRESHES = 3


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


class Sighting(Habits):
    """What user rules judge: to the questions about the user, those about the family's client."""

    # ------------------------------------------------------------------------------- the client

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


def _latest(one: Anchor | None, other: Anchor | None) -> Anchor | None:
    if one is None or other is None:
        return one or other
    return one if one.second >= other.second else other
