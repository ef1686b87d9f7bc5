"""The attackers: what kinds there are, what each needs, and where thieves come from."""

from enum import StrEnum
from random import Random

import msgspec

from detector.world.atlas import Atlas, City
from detector.world.browsers import Device, any_device
from detector.world.whereabouts import Access, access


class Kind(StrEnum):
    """An attack, by what the attacker has and does with it."""

    REPLAY_ASN_DEVICE = "replay-asn-device"
    """A stolen token, used from another network and device before its owner's next refresh."""
    REPLAY_ASN_UA = "replay-asn-ua"
    """The same, with the owner's user agent; hints and cookie copied or not."""
    REPLAY_NEIGHBOUR = "replay-neighbour"
    """The same, from the owner's city and carrier with their browser: hardly to be told apart."""
    SLOW_THEFT = "slow-theft"
    """A copy that is used hours or days later."""
    REUSE = "reuse-outside-window"
    """A token that its owner has already used."""
    LOCKSTEP = "lockstep"
    """The thief presents each token seconds after its owner, inside the overlap window."""
    LATE_LOCKSTEP = "late-lockstep"
    """The same, after the window: late retries."""
    FUTURE_GENERATION = "future-generation"
    """A token that was not issued yet: a restored backup, or worse."""
    MANY_TOKENS = "many-victims-tokens"
    """One thief with tokens of many."""
    MANY_PASSWORDS = "many-victims-passwords"
    """One thief with passwords of many."""
    IMPOSSIBLE_TRAVEL = "impossible-travel"
    """A stolen password, used far away soon after its owner was active."""
    PASSWORD_THEFT = "password-theft"
    """A stolen password, used on another device and network."""
    DORMANT = "dormant-account"
    """A stolen password of an account that nobody has used for months."""
    BOT = "bot-cadence"
    """A script that signs in and refreshes to the second."""
    STUFFING = "credential-stuffing"
    """Lists of leaked passwords, tried from one source."""
    SPRAYING = "password-spraying"
    """A few passwords for many accounts, from many sources."""
    BRUTE_FORCE = "brute-force"
    """Many passwords for one account, one of them right."""


VARIANTS: dict[Kind, tuple[str, ...]] = {
    Kind.REPLAY_ASN_UA: ("bare", "hints", "cookie", "hints-cookie"),
    Kind.REPLAY_NEIGHBOUR: ("bare", "cookie"),
    Kind.SLOW_THEFT: ("stale", "owner-away"),
    Kind.LOCKSTEP: ("same-network", "other-network"),
    Kind.PASSWORD_THEFT: ("same-country", "other-country", "same-carrier"),
}
"""Kinds that come in several forms."""

GROUP_KINDS = (Kind.MANY_TOKENS, Kind.MANY_PASSWORDS)
"""One attacker, ``GROUP_SIZE`` victims, an eighth as many attacks."""
GROUP_SIZE = 8
BURST_KINDS = (Kind.STUFFING, Kind.SPRAYING, Kind.BRUTE_FORCE)
"""What begins with failed sign-ins. Bursts come one after the other, so that each is told apart."""
MOST_BURSTS = 10
"""More of a kind would run into each other."""
TOKEN_KINDS = (
    Kind.REPLAY_ASN_DEVICE,
    Kind.REPLAY_ASN_UA,
    Kind.REPLAY_NEIGHBOUR,
    Kind.SLOW_THEFT,
    Kind.REUSE,
    Kind.LOCKSTEP,
    Kind.LATE_LOCKSTEP,
    Kind.FUTURE_GENERATION,
    Kind.MANY_TOKENS,
)
"""What happens within an owner's family."""
SIGN_IN_KINDS = tuple(kind for kind in Kind if kind not in TOKEN_KINDS)
"""What begins with a sign-in of the attacker's own."""


class Attack(msgspec.Struct, frozen=True):
    """One attack on one victim, or one victim of an attack on many.

    Attributes:
        number: Tells attacks apart; the victims of one attack share it.
        kind: What is done.
        variant: Which form of it; empty where there is one.
        day: Not before this day of the world.
        after_ms: Of a burst: how long after that midnight.
        device: The attacker's, where several victims see the same.
        place: Where from, likewise.
    """

    number: int
    kind: Kind
    variant: str
    day: int
    after_ms: int = 0
    device: Device | None = None
    place: Access | None = None

    @property
    def label(self) -> str:
        """The label of the attacker's lines."""
        variant = f":{self.variant}" if self.variant else ""
        return f"attack:{self.kind.value}{variant}#{self.number}"


def variant_of(kind: Kind, number: int) -> str:
    """The variants of a kind in turn."""
    variants = VARIANTS.get(kind, ("",))
    return variants[number % len(variants)]


class Owner(msgspec.Struct, frozen=True):
    """What a thief may find out about the owner of what they stole.

    Attributes:
        near: The network that the owner is in just now.
        device: The owner's device.
        known: ASNs that the owner was ever seen in.
    """

    near: Access
    device: Device
    known: frozenset[int]


def elsewhere(atlas: Atlas, owner: Owner, dice: Random) -> Access:
    """A network that was never the owner's: a data centre, a household abroad or at home."""
    while True:
        place = _anywhere(atlas, owner.near.city, dice)
        if place.carrier.asn not in owner.known:
            return place


def other_carrier(atlas: Atlas, owner: Owner, dice: Random) -> Access:
    """A household in the owner's country, with a carrier that was never the owner's."""
    country = atlas.country_of(owner.near.city)
    carriers = [each for each in country.fixed if each.asn not in owner.known] or country.fixed
    return access(dice.choice(carriers), dice.choice(country.cities), dice)


def _anywhere(atlas: Atlas, city: City, dice: Random) -> Access:
    draw = dice.random()
    if draw < 0.3:  # noqa: PLR2004
        return access(dice.choice(atlas.hosting), atlas.any_country(dice).cities[0], dice)
    if draw < 0.55:  # noqa: PLR2004
        country = atlas.country_of(city)
        return access(dice.choice(country.fixed), dice.choice(country.cities), dice)
    return abroad(atlas, city, dice)


def abroad(atlas: Atlas, city: City, dice: Random, at_least_km: float = 0) -> Access:
    """A household's line in another country."""
    country = atlas.country_far_from(city, dice, at_least_km)
    return access(dice.choice(country.fixed), dice.choice(country.cities), dice)


def other_device(victim: Device, dice: Random) -> Device:
    """A device with another browser than the victim's, and without their cookie."""
    while True:
        device = any_device(dice)
        if device.model is not victim.model:
            return device


def copied_device(victim: Device, day: int, *, hints: bool, cookie: bool) -> Device:
    """A browser that says it is the victim's."""
    return Device(
        victim.model,
        victim.lag_days,
        device_id=victim.device_id if cookie else None,
        has_hints=hints,
        pinned_day=day,
    )
