"""The rhythm of a day: when people use their devices, and how often those refresh meanwhile."""

from random import Random

from detector.world.lines import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS

ACCESS_TOKEN_MS = 10 * MINUTE_MS
"""How long an access token lives, and so how far refreshes lie apart at least."""
_MEAN_BOUT_MIN = 25
_LONGEST_BOUT_MS = 3 * HOUR_MS
_RHYTHM = [
    hour
    for hour, weight in enumerate(
        (2, 1, 1, 1, 1, 2, 5, 9, 11, 10, 9, 9, 10, 9, 9, 9, 10, 11, 12, 13, 14, 13, 10, 5)
    )
    for _ in range(weight)
]


def bouts_of_a_day(
    *, most: int, least: int, midnight: int, offset_ms: int, free_from: int, dice: Random
) -> list[list[int]]:
    """When a device is used on a day: bouts of requests, in milliseconds since 1970.

    Args:
        most: How many bouts a usual day has at most.
        least: How many it must have.
        midnight: When the day begins, UTC.
        offset_ms: Local time's distance from UTC.
        free_from: Not before this instant.
        dice: Chance.
    """
    starts = sorted(
        midnight
        + (int((_RHYTHM[int(dice.random() * len(_RHYTHM))] + dice.random()) * HOUR_MS) - offset_ms)
        % DAY_MS
        for _ in range(max(least, dice.randint(1, most)))
    )
    bouts = []
    for start in starts:
        at = max(start, free_from)
        end = at + min(int(dice.expovariate(1 / _MEAN_BOUT_MIN) * MINUTE_MS), _LONGEST_BOUT_MS)
        bout = [at]
        while (at := at + ACCESS_TOKEN_MS + int(dice.random() * 50_000)) <= end:
            bout.append(at)
        bouts.append(bout)
        free_from = bout[-1] + ACCESS_TOKEN_MS + 5 * SECOND_MS
    return bouts


def gap_after(bouts: list[list[int]], place: int, step: int) -> int:
    """How long until the next request of the day; six hours after the last."""
    if step + 1 < len(bouts[place]):
        return bouts[place][step + 1] - bouts[place][step]
    if place + 1 < len(bouts):
        return bouts[place + 1][0] - bouts[place][step]
    return 6 * HOUR_MS
