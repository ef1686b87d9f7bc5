"""Intrusions with a stolen password: a sign-in of the thief's own, and what they do then."""

from random import Random

from detector.world.atlas import Atlas
from detector.world.attacks import (
    Attack,
    Kind,
    Owner,
    abroad,
    elsewhere,
    other_carrier,
    other_device,
)
from detector.world.lines import MINUTE_MS, SECOND_MS, Do, Line
from detector.world.whereabouts import Access, access

_FAR_KM = 3_000
_ACCESS_TOKEN_MS = 10 * MINUTE_MS
_BOT_PERIOD_MS = 30 * SECOND_MS


class Intruder:
    """One intrusion into one account."""

    def __init__(self, attack: Attack, atlas: Atlas, dice: Random, *, geo: bool) -> None:
        """Make ready."""
        self._attack = attack
        self._atlas = atlas
        self._dice = dice
        self._geo = geo

    def break_in(self, user: str, family: str, owner: Owner, owner_at: int, day: int) -> list[Line]:
        """Sign in and go on.

        Args:
            user: The victim.
            family: Name for the family that this opens.
            owner: What is known of them.
            owner_at: The owner's latest request, in milliseconds.
            day: Day of the world.
        """
        attack, dice = self._attack, self._dice
        wait = dice.randint(5, 600) * MINUTE_MS
        if attack.kind is Kind.IMPOSSIBLE_TRAVEL:
            wait = dice.randint(8, 70) * MINUTE_MS
        at = owner_at + wait + dice.randrange(MINUTE_MS)
        device = attack.device or other_device(owner.device, dice)
        place = attack.place or self._place(owner)
        shown = device.client(place.ipv4(day), day, geo=self._geo)
        return opened_family(attack, user, family, shown, at, dice)

    def _place(self, owner: Owner) -> Access:
        attack, atlas, dice, near = self._attack, self._atlas, self._dice, owner.near
        if attack.kind is Kind.IMPOSSIBLE_TRAVEL:
            return abroad(atlas, near.city, dice, _FAR_KM)
        if attack.variant == "other-country":
            return abroad(atlas, near.city, dice)
        if attack.variant == "same-carrier":  # a hijacked router in the victim's town
            return access(near.carrier, near.city, dice)
        if attack.variant == "same-country" or attack.kind is Kind.BOT:
            return other_carrier(atlas, owner, dice)
        return elsewhere(atlas, owner, dice)


def opened_family(
    attack: Attack, user: str, family: str, shown: str, at: int, dice: Random
) -> list[Line]:
    """A sign-in by somebody else, and the refreshes after it."""
    lines = [Line(at, Do.LOGIN, attack.label, client=shown, user=user, family=family)]
    is_bot = attack.kind is Kind.BOT
    for generation in range(1, dice.randint(150, 400) if is_bot else dice.randint(3, 12)):
        at += _BOT_PERIOD_MS if is_bot else _ACCESS_TOKEN_MS + dice.randrange(40_000)
        lines.append(
            Line(
                at,
                Do.REFRESH,
                attack.label,
                client=shown,
                family=family,
                generation=generation,
            )
        )
    return lines
