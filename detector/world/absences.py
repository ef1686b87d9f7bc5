"""Accounts that nobody used for months: some return, and for some a thief comes first."""

from random import Random

from detector.world.browsers import Device
from detector.world.lines import DAY_MS, HOUR_MS, MINUTE_MS, Do, Line
from detector.world.people import Person
from detector.world.plan import World

_AWAY_DAYS = (95, 140)
_ACCESS_TOKEN_MS = 10 * MINUTE_MS


def long_ago(person: Person, world: World, dice: Random) -> list[Line]:
    """Their sign-ins of months before the world begins, in time order.

    Args:
        person: Who; at home, on their first device, as they used to be.
        world: When it begins.
        dice: Their own chance.
    """
    device: Device = person.devices[0]
    label = person.trap.label
    left = -dice.randint(*_AWAY_DAYS)
    lines: list[Line] = []
    for visit in range(dice.randint(4, 8), 0, -1):
        day = left - visit * 2
        at = world.start_ms + day * DAY_MS + dice.randrange(18 * HOUR_MS)
        shown = device.client(person.home.ipv4(day), day, geo=world.geo)
        family = f"{person.user}.o{visit}"
        lines.append(Line(at, Do.LOGIN, label, client=shown, user=person.user, family=family))
        for generation in range(1, dice.randint(2, 6)):
            at += _ACCESS_TOKEN_MS + dice.randrange(40_000)
            lines.append(
                Line(
                    at,
                    Do.REFRESH,
                    label,
                    client=shown,
                    family=family,
                    generation=generation,
                )
            )
        lines.append(Line(at + MINUTE_MS, Do.LOGOUT, label, client=shown, family=family))
    return lines
