"""Who is in the world: the honest, their attackers, and which meets which."""

from collections.abc import Iterator
from random import Random

import msgspec

from detector.world.atlas import Atlas
from detector.world.attacks import (
    BURST_KINDS,
    GROUP_KINDS,
    GROUP_SIZE,
    MOST_BURSTS,
    Attack,
    Kind,
    abroad,
    variant_of,
)
from detector.world.browsers import any_device
from detector.world.lines import DAY_MS
from detector.world.people import Gatherings, Person, gatherings, person
from detector.world.plan import World, dice_for
from detector.world.traps import Trap, allotted_traps

_UNFIT = {Trap.NEW_PHONE, Trap.DORMANT_RETURN, Trap.SAME_INSTANT}
"""Whose first session may end before the attacker comes."""
_MOVING = {
    Trap.VPN_ALWAYS,
    Trap.VPN_SOMETIMES,
    Trap.RELAY,
    Trap.HOLIDAY,
    Trap.CONFERENCE,
    Trap.CORPORATE_PROXY,
}
"""Who is not where they live, so that "far from home" is not far from them."""
_ATTACKS_BEGIN, _ATTACKS_END = 0.5, 0.8


class Cast(msgspec.Struct, frozen=True):
    """Everybody.

    Attributes:
        people: The honest.
        victims: What is done to whom, by account.
        sleepers: Accounts of people long gone, and the attack on each.
        bursts: Attacks on many accounts at once.
    """

    people: list[Person]
    victims: dict[str, Attack]
    sleepers: list[tuple[Person, Attack]]
    bursts: list[Attack]


def cast_of(world: World, atlas: Atlas) -> Cast:
    """Everybody in that world.

    Raises:
        ValueError: There are more attacks than users to attack.
    """
    dice = dice_for(world, "cast")
    shared = gatherings(world, atlas, dice)
    people = list(_people(world, atlas, shared, dice))
    free = [each for each in people if each.trap not in _UNFIT]
    dice.shuffle(free)
    victims: dict[str, Attack] = {}
    sleepers: list[tuple[Person, Attack]] = []
    number = 0
    for attack in _attacks(world, atlas, dice):
        number = attack.number
        if attack.kind is Kind.DORMANT:
            name = f"s{len(sleepers)}"
            chance = dice_for(world, name)
            gone = person(name, Trap.DORMANT_RETURN, world, atlas, shared, chance)
            sleepers.append((gone, attack))
        else:
            victims[_victim(free, attack).user] = attack
    return Cast(people, victims, sleepers, _bursts(world, number + 1, dice))


def _people(world: World, atlas: Atlas, shared: Gatherings, dice: Random) -> Iterator[Person]:
    for count, trap in enumerate(allotted_traps(world.users, dice)):
        user = f"u{count}"
        yield person(user, trap, world, atlas, shared, dice_for(world, user))


def _attacks(world: World, atlas: Atlas, dice: Random) -> Iterator[Attack]:
    number = 0
    for kind in Kind:
        if kind in BURST_KINDS:
            continue
        is_group = kind in GROUP_KINDS
        count = world.attacks_of_a_kind
        for instance in range(-(-count // GROUP_SIZE) if is_group else count):
            number += 1
            day = int(world.days * dice.uniform(_ATTACKS_BEGIN, _ATTACKS_END))
            attack = Attack(number, kind, variant_of(kind, instance), day)
            if not is_group:
                yield attack
                continue
            device = any_device(dice)
            device.device_id = None
            place = abroad(atlas, dice.choice(atlas.any_country(dice).cities), dice)
            for _ in range(GROUP_SIZE):
                yield msgspec.structs.replace(attack, device=device, place=place)


def _bursts(world: World, first_number: int, dice: Random) -> list[Attack]:
    """Bursts of all kinds in turn, evenly over the time of attacks."""
    count = min(MOST_BURSTS, world.attacks_of_a_kind) * len(BURST_KINDS)
    begins, ends = _ATTACKS_BEGIN * world.days, _ATTACKS_END * world.days
    bursts = []
    for place in range(count):
        when = int((begins + (ends - begins) * (place + dice.uniform(0, 0.2)) / count) * DAY_MS)
        kind = BURST_KINDS[place % len(BURST_KINDS)]
        bursts.append(
            Attack(first_number + place, kind, "", when // DAY_MS, after_ms=when % DAY_MS)
        )
    return bursts


def _victim(free: list[Person], attack: Attack) -> Person:
    for index in range(len(free) - 1, -1, -1):
        if attack.kind is Kind.IMPOSSIBLE_TRAVEL and free[index].trap in _MOVING:
            continue
        return free.pop(index)
    msg = (
        f"there are not enough users for an attack of kind {attack.kind}: fewer attacks, more users"
    )
    raise ValueError(msg)
