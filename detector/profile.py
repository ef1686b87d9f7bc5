"""What is known of one user and of one family: small, bounded, and replaced, never changed."""

import msgspec

from detector.familiar import Familiar
from detector.features import NO_FEATURES, Features, UserFeatures
from domain.ids import EventId, UserId


class Anchor(msgspec.Struct, frozen=True, array_like=True):
    """Where a client was last, for one IP version.

    Attributes:
        second: When, in seconds since 1970.
        prefix: The network's prefix.
        asn: Its autonomous system.
        country: ISO code.
        city: English name.
        latitude: Degrees, or None.
        longitude: Degrees, or None.
        radius_km: How far off that may be.
    """

    second: float
    prefix: str | None = None
    asn: int | None = None
    country: str | None = None
    city: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    radius_km: int = 0


class Unlearned(msgspec.Struct, frozen=True, array_like=True):
    """What an alerted event showed: learned once somebody says that it was the user."""

    family_id: str
    second: float
    prefix: str | None
    asn: str | None
    country: str | None
    place: str | None
    device: str | None
    cookie: str | None
    features: Features | None = None


class UserProfile(msgspec.Struct, frozen=True, array_like=True):
    """What is known of one user.

    Attributes:
        first_seen: First sign-in, in seconds since 1970; 0 before it.
        last_seen: Last sign-in or change of network; refreshes from where one was do not count.
        sign_ins: How many were learned from.
        prefixes: Networks.
        asns: Autonomous systems.
        countries: ISO codes.
        places: ``country/city``.
        devices: Signatures of devices.
        cookies: Device keys (hashes of device cookies).
        anchors: Where the user was last, by device and IP version (``anchor_key``), latest first.
        features: How often each feature value of the risk score was seen at sign-in.
        unlearned: What alerted events showed, latest first.
        tunnels: Autonomous systems of VPNs, relays, data centres and satellite carriers that the
            user comes through.
    """

    first_seen: float = 0.0
    last_seen: float = 0.0
    sign_ins: int = 0
    prefixes: Familiar = ()
    asns: Familiar = ()
    countries: Familiar = ()
    places: Familiar = ()
    devices: Familiar = ()
    cookies: Familiar = ()
    anchors: tuple[tuple[str, Anchor], ...] = ()
    features: UserFeatures = NO_FEATURES
    unlearned: tuple[Unlearned, ...] = ()
    tunnels: Familiar = ()

    def anchor(self, device: str, version: int) -> Anchor | None:
        """Where the user was last on that device, or, where it is new, on any.

        A computer that was left on at home goes on refreshing: where it is says nothing of where
        the telephone should be.
        """
        key = anchor_key(device, version)
        for known, anchor in self.anchors:
            if known == key:
                return anchor
        return self.anchors[0][1] if self.anchors else None


def anchor_key(device: str, version: int) -> str:
    """How a device's whereabouts are remembered: apart for the two IP versions."""
    return f"{device}|{version}"


class FamilyTrace(msgspec.Struct, frozen=True, array_like=True):
    """What is known of one session family.

    Attributes:
        user_id: Whose it is.
        started: Its sign-in, in seconds since 1970.
        last: The last time that its client was seen.
        device: Signature of its device.
        browser_version: Highest major version seen.
        cookie: Its device key, if it has one.
        hinted: Whether it has sent client hints every time.
        model: Device model, where one was told.
        anchor4: Where it was last over IPv4.
        anchor6: Where it was last over IPv6.
        prefixes: Networks that it was in.
        asns: Autonomous systems that it was in.
        moves: Its latest changes of network, latest first: when and where to (ASN, else prefix).
        refreshes: How many intervals between refreshes are in the mean.
        mean_s: Their mean, in seconds.
        spread: Sum of squared distances from the mean (Welford).
        late_retries: When the latest late retries were, latest first.
        event_id: The last event that was taken in.
        keeps_cookie: Whether its device key has come with every request since it first did.
        contradicts: Whether its user agent has ever contradicted its hints.
        quickest_s: The shortest interval between refreshes; 0 before the first.
        interval_s: The latest one.
        steady: How many intervals in a row were as long as the one before, to the second.
        steady_since: When that row began.
        quick: How many intervals in a row were shorter than a minute.
        late_generations: The generations of ``late_retries``.
        vouched_at: When somebody last said that its client is the user.
        doubted: Whether something spoke against it since: the user's profile learns nothing of it.
    """

    user_id: UserId
    started: float
    last: float
    device: str
    browser_version: int | None = None
    cookie: str | None = None
    hinted: bool = False
    model: str | None = None
    anchor4: Anchor | None = None
    anchor6: Anchor | None = None
    prefixes: Familiar = ()
    asns: Familiar = ()
    moves: tuple[tuple[float, str], ...] = ()
    refreshes: int = 0
    mean_s: float = 0.0
    spread: float = 0.0
    late_retries: tuple[float, ...] = ()
    event_id: EventId = EventId("")
    keeps_cookie: bool = True
    contradicts: bool = False
    quickest_s: float = 0.0
    interval_s: float = 0.0
    steady: int = 0
    steady_since: float = 0.0
    quick: int = 0
    late_generations: tuple[int, ...] = ()
    vouched_at: float = 0.0
    doubted: bool = False

    def anchor(self, version: int) -> Anchor | None:
        """Where the family was last over that IP version."""
        return self.anchor6 if version == _IPV6 else self.anchor4


NOBODY = UserProfile()
_IPV6 = 6
