"""Small bounded memories: what a user or a family was seen with, and how familiar it is."""

import msgspec

_HOUR_S = 3600.0


class Known(msgspec.Struct, frozen=True, array_like=True):
    """Something that was seen before.

    Attributes:
        key: What it is.
        first: When it was first seen, in seconds since 1970.
        last: When it was last seen.
        uses: How often.
    """

    key: str
    first: float
    last: float
    uses: int = 1


Familiar = tuple[Known, ...]
"""Latest first; never longer than the limit that it is kept with."""
Counts = tuple[tuple[str, int], ...]
"""Keys and how often each was counted, latest first; bounded as well."""


def find(familiar: Familiar, key: str) -> Known | None:
    """What is known of a key, if anything."""
    for known in familiar:
        if known.key == key:
            return known
    return None


def knows(familiar: Familiar, key: str | None) -> bool:
    """Whether a key was seen before. What cannot be told is not new: None counts as known."""
    return key is None or find(familiar, key) is not None


def with_seen(familiar: Familiar, key: str | None, now: float, limit: int) -> Familiar:
    """The memory after seeing a key once more; the one seen longest ago makes room.

    Seeing the latest again within the same hour changes nothing but the count once an hour, so
    that quiet days cost no writes.
    """
    if key is None:
        return familiar
    if familiar and familiar[0].key == key and now - familiar[0].last < _HOUR_S:
        return familiar
    known = find(familiar, key)
    if known is None:
        return (Known(key, now, now), *familiar[: limit - 1])
    rest = tuple(other for other in familiar if other is not known)
    return (Known(key, known.first, max(known.last, now), known.uses + 1), *rest)


def counted(counts: Counts, key: str, add: int, limit: int) -> Counts:
    """The counts with a key counted ``add`` times more; the one least recent makes room."""
    before = 0
    rest = []
    for known, count in counts:
        if known == key:
            before = count
        else:
            rest.append((known, count))
    return ((key, before + add), *rest[: limit - 1])


def count_of(counts: Counts, key: str) -> int:
    """How often a key was counted."""
    for known, count in counts:
        if known == key:
            return count
    return 0
