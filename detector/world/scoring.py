"""Scores a playback of a labelled world: attacks caught, false alarms, recall at a budget."""

from collections.abc import Callable, Iterable

import msgspec

from detector.world.caught import AttackRow, CaughtTally, victims
from detector.world.false_alarms import FalseAlarmTally, TrapRow
from detector.world.playback import answered, attack_of, requests
from detector.world.recall import RecallRow, RecallTally


class Scores(msgspec.Struct, frozen=True):
    """How a playback went.

    Attributes:
        has_geo: Whether the file says where addresses are.
        attacks: By kind and variant.
        false_alarms: Everybody first, then by trap.
        collateral: What befell the honest families of users after they were attacked: not counted
            as false alarms, since revoking all of a victim's families is right.
        recall: For all kinds of stolen sign-ins together, then for each; one row a budget.
    """

    has_geo: bool
    attacks: list[AttackRow]
    false_alarms: list[TrapRow]
    collateral: TrapRow
    recall: list[RecallRow]


def score(world: Callable[[], Iterable[bytes]], answers: Iterable[bytes]) -> Scores:
    """Score what the player answered.

    Args:
        world: Opens the request file; it is read twice.
        answers: The player's output, a line for each line of the file.

    Raises:
        MismatchError: The two do not belong together.
    """
    attacked_families, attacked_users = victims(requests(world()))
    caught, recall = CaughtTally(), RecallTally()
    alarms, collateral = FalseAlarmTally(), FalseAlarmTally()
    owners: dict[str, str] = {}
    has_geo = False
    for request, answer in answered(world(), answers):
        has_geo = has_geo or request.geo is not None
        if request.do == "verdict":
            continue
        if request.do == "login":
            owners[request.family] = request.user
        attack = attack_of(request)
        attacked_at = attacked_users.get(request.user or owners.get(request.family, ""))
        is_safe = attacked_at is None or request.at < attacked_at
        if request.do == "login":
            recall.watch(request, answer, attack, counts=is_safe)
        if attack is not None:
            caught.watch_thief(attack, request, answer)
            alarms.watch_attacker(request, answer)
            collateral.watch_attacker(request, answer)
        elif request.family in attacked_families and not is_safe:
            caught.watch_owner(request, answer)
        else:
            (alarms if is_safe else collateral).watch(request, answer)
    return Scores(
        has_geo=has_geo,
        attacks=caught.rows(),
        false_alarms=alarms.rows(),
        collateral=collateral.rows()[0],
        recall=recall.rows(),
    )
