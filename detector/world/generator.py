"""Plays a world day by day and writes its request file, in time order."""

from bisect import bisect_left
from collections.abc import Iterator
from heapq import merge
from operator import attrgetter

from detector.world.absences import long_ago
from detector.world.atlas import Atlas, atlas
from detector.world.attacks import Attack, Owner
from detector.world.campaigns import burst
from detector.world.cast import Cast, cast_of
from detector.world.intrusions import Intruder
from detector.world.life import Life
from detector.world.lines import DAY_MS, HOUR_MS, Line, LineWriter
from detector.world.people import Person
from detector.world.plan import World, dice_for
from detector.world.traps import Trap
from detector.world.verdicts import verdicts_on

_AT = attrgetter("at")


def generate(world: World) -> Iterator[bytes]:
    """The lines of a world's request file, in time order, without line breaks.

    Holds one day's lines at a time, and what each person is about.

    Args:
        world: Its parameters.

    Raises:
        ValueError: There are more attacks than users to attack.
    """
    writer = LineWriter()
    for line in played(world):
        yield writer.write(line)


def played(world: World) -> Iterator[Line]:
    """The same lines, before they are written."""
    chart = atlas()
    cast = cast_of(world, chart)
    yield from sorted(_history(cast, world), key=_AT)
    lives = [_life(each, world, chart, cast.victims.get(each.user)) for each in cast.people]
    pending = sorted(_apart_from_lives(cast, world, chart), key=_AT)
    for day in range(world.days):
        for life in lives:
            pending += life.day(day)
        pending.sort(key=_AT)
        ends = world.start_ms + (day + 1) * DAY_MS - _SPILL_MS
        ready, pending = _parted(pending, ends)
        verdicts = sorted(verdicts_on(ready, dice_for(world, "verdicts", day)), key=_AT)
        timely, later = _parted(verdicts, ends)
        yield from merge(ready, timely, key=_AT)
        pending += later
    pending.sort(key=_AT)
    yield from pending


def _parted(lines: list[Line], at: int) -> tuple[list[Line], list[Line]]:
    """Lines in time order, before an instant and from it on."""
    place = bisect_left(lines, at, key=_AT)
    return lines[:place], lines[place:]


_SPILL_MS = HOUR_MS
"""A day's lines may lie a little before its midnight: a mistyped password, a sign-out."""


def _history(cast: Cast, world: World) -> Iterator[Line]:
    returning = [each for each in cast.people if each.trap is Trap.DORMANT_RETURN]
    for gone in (*returning, *(sleeper for sleeper, _ in cast.sleepers)):
        yield from long_ago(gone, world, dice_for(world, gone.user, "history"))


def _life(person: Person, world: World, chart: Atlas, attack: Attack | None) -> Life:
    return Life(person, world, chart, dice_for(world, person.user, "life"), attack)


def _apart_from_lives(cast: Cast, world: World, chart: Atlas) -> Iterator[Line]:
    for sleeper, attack in cast.sleepers:
        intruder = Intruder(attack, chart, dice_for(world, sleeper.user, "thief"), geo=world.geo)
        yield from intruder.break_in(
            sleeper.user,
            f"{sleeper.user}.x",
            Owner(sleeper.home, sleeper.devices[0], frozenset({sleeper.home.carrier.asn})),
            world.start_ms + attack.day * DAY_MS,
            attack.day,
        )
    joined = [each.user for each in cast.people if each.trap is not Trap.DORMANT_RETURN]
    for attack in cast.bursts:
        yield from burst(attack, joined, world, chart, dice_for(world, "burst", attack.number))
