"""Counts over the last hour, in twelve parts: bounded, and no burst falls between two windows."""

PART_S = 300.0
PARTS = 12
WINDOW_S = PART_S * PARTS

Sliding = tuple[tuple[int, int], ...]
"""Part of time (seconds since 1970 by ``PART_S``) and count, latest first."""


def added(counts: Sliding, now: float, count: int) -> Sliding:
    """The counts with some more now; parts older than the window are dropped."""
    if not count:
        return counts
    part = int(now // PART_S)
    if counts and counts[0][0] >= part:  # one that comes late counts with the latest
        return ((counts[0][0], counts[0][1] + count), *counts[1:])
    oldest = part - PARTS
    return ((part, count), *(each for each in counts if each[0] > oldest))


def total(counts: Sliding, now: float) -> int:
    """How many within the last hour (and up to ``PART_S`` less)."""
    oldest = int(now // PART_S) - PARTS
    return sum(count for part, count in counts if part > oldest)
