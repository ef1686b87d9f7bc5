"""Intrusions with a stolen password: a sign-in of the thief's own, and what they do then."""

from random import Random

from detector.world.atlas import Atlas
from detector.world.attacks import Attack, Kind, abroad, elsewhere, other_device
from detector.world.browsers import Device
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

    def break_in(
        self, user: str, family: str, home: Access, owner: Device, owner_at: int, day: int
    ) -> list[Line]:
        """Sign in and go on.

        Args:
            user: The victim.
            family: Name for the family that this opens.
            home: The victim's line at home.
            owner: The victim's device.
            owner_at: The owner's latest request, in milliseconds.
            day: Day of the world.
        """
        attack, dice = self._attack, self._dice
        wait = dice.randint(5, 600) * MINUTE_MS
        if attack.kind is Kind.IMPOSSIBLE_TRAVEL:
            wait = dice.randint(8, 70) * MINUTE_MS
        at = owner_at + wait + dice.randrange(MINUTE_MS)
        device = attack.device or other_device(owner, dice)
        place = attack.place or self._place(home)
        shown = device.client(place.ipv4(day), day, geo=self._geo)
        return opened_family(attack, user, family, shown, at, dice)

    def _place(self, home: Access) -> Access:
        attack, atlas, dice = self._attack, self._atlas, self._dice
        if attack.kind is Kind.IMPOSSIBLE_TRAVEL:
            return abroad(atlas, home.city, dice, _FAR_KM)
        if attack.variant == "other-country":
            return abroad(atlas, home.city, dice)
        if attack.variant == "same-carrier":  # a hijacked router in the victim's town
            return access(home.carrier, home.city, dice)
        if attack.variant == "same-country" or attack.kind is Kind.BOT:
            country = atlas.country_of(home.city)
            others = [each for each in country.fixed if each.asn != home.carrier.asn]
            return access(dice.choice(others), dice.choice(country.cities), dice)
        return elsewhere(atlas, home, dice)


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
