"""Bursts of failed sign-ins: stuffing, spraying, and guessing at one account; some succeed."""

from collections.abc import Sequence
from random import Random

from detector.world.atlas import Atlas
from detector.world.attacks import Attack, Kind
from detector.world.browsers import MODELS, Device, any_device
from detector.world.intrusions import opened_family
from detector.world.lines import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Do, Line
from detector.world.plan import World
from detector.world.whereabouts import Access, access

_UNKNOWN_NAMES_SHARE = 0.6
"""Leaked lists are mostly about people who have no account here."""


def burst(
    attack: Attack, users: Sequence[str], world: World, atlas: Atlas, dice: Random
) -> list[Line]:
    """The lines of a burst, in time order.

    Args:
        attack: What kind; not before its day.
        users: Accounts that exist.
        world: The world.
        atlas: Its map.
        dice: Its own chance.
    """
    at = world.start_ms + attack.day * DAY_MS + attack.after_ms
    campaign = _Campaign(attack, users, world, atlas, dice)
    match attack.kind:
        case Kind.STUFFING:
            lines = campaign.stuff(at)
        case Kind.SPRAYING:
            lines = campaign.spray(at)
        case _:
            lines = campaign.guess(at)
    return sorted(lines, key=lambda line: line.at)


class _Campaign:
    def __init__(
        self, attack: Attack, users: Sequence[str], world: World, atlas: Atlas, dice: Random
    ) -> None:
        self._attack = attack
        self._users = users
        self._geo = world.geo
        self._atlas = atlas
        self._dice = dice

    def stuff(self, at: int) -> list[Line]:
        """Hundreds of names from one address, one or two tries each."""
        dice = self._dice
        shown = self._shown(self._tool(), self._hosting())
        tries = dice.randint(150, 700)
        pace = dice.randint(300, 2_500)
        hits = set(dice.sample(range(tries), dice.randint(1, 3)))
        lines: list[Line] = []
        for count in range(tries):
            at += dice.randint(pace // 2, pace * 3 // 2)
            if count in hits:
                lines += self._success(at, dice.choice(self._users), shown, count)
                continue
            name = f"n{dice.getrandbits(40):x}"
            if dice.random() > _UNKNOWN_NAMES_SHARE:
                name = dice.choice(self._users)
            lines.append(self._failure(at, name, shown))
        return lines

    def spray(self, at: int) -> list[Line]:
        """A few passwords for many accounts, from dozens of addresses, over an hour or more."""
        dice = self._dice
        tool = self._tool()
        sources = [self._shown(tool, self._anywhere()) for _ in range(dice.randint(20, 50))]
        tries = dice.randint(120, 400)
        pace = dice.randint(40 * MINUTE_MS, 2 * HOUR_MS) // tries
        hits = set(dice.sample(range(tries), dice.randint(0, 2)))
        lines: list[Line] = []
        for count in range(tries):
            at += dice.randint(pace // 2, pace * 3 // 2)
            user, shown = dice.choice(self._users), dice.choice(sources)
            if count in hits:
                lines += self._success(at, user, shown, count)
            else:
                lines.append(self._failure(at, user, shown))
        return lines

    def guess(self, at: int) -> list[Line]:
        """Many passwords for one account, and in the end the right one."""
        dice = self._dice
        user, tool = dice.choice(self._users), self._tool()
        sources = [self._shown(tool, self._hosting()) for _ in range(dice.randint(1, 3))]
        lines: list[Line] = []
        for _ in range(dice.randint(40, 250)):
            at += dice.randint(500, 8_000)
            lines.append(self._failure(at, user, dice.choice(sources)))
        return lines + self._success(at + 5 * SECOND_MS, user, dice.choice(sources), 0)

    def _success(self, at: int, user: str, shown: str, count: int) -> list[Line]:
        family = f"b{self._attack.number}.{count}"
        return opened_family(self._attack, user, family, shown, at, self._dice)

    def _failure(self, at: int, user: str, shown: str) -> Line:
        return Line(at, Do.LOGIN_FAILED, self._attack.label, client=shown, user=user)

    def _tool(self) -> Device:
        dice = self._dice
        if dice.random() < 0.5:  # noqa: PLR2004 - a script that says it is a browser, without hints
            return Device(MODELS[5], dice.uniform(0, 90), has_hints=False)
        return any_device(dice)

    def _shown(self, device: Device, place: Access) -> str:
        device.device_id = None
        return device.client(place.ipv4(), self._attack.day, geo=self._geo)

    def _hosting(self) -> Access:
        dice, atlas = self._dice, self._atlas
        return access(dice.choice(atlas.hosting), atlas.any_country(dice).cities[0], dice)

    def _anywhere(self) -> Access:
        dice = self._dice
        if dice.random() < 0.5:  # noqa: PLR2004
            return self._hosting()
        country = self._atlas.any_country(dice)
        return access(dice.choice(country.fixed), dice.choice(country.cities), dice)
