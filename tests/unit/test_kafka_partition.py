"""What a consumer makes of the messages of a partition: new, seen before, or something missing."""

import pytest

from infra.kafka_consumer import BEGINNING
from infra.kafka_partition import (
    Bookmark,
    EventsMissingError,
    HeldPartition,
    Verdict,
    Waiting,
)
from infra.tail import START, Place, recorded
from tests.unit.test_kafka_messages import ROW

NEW = Bookmark(START, None)


def judged(held: HeldPartition, *messages: tuple[int, int]) -> list[Verdict]:
    """What becomes of messages, given as offset and position in transaction 1."""
    return [held.judge(offset, Place(1, position)) for offset, position in messages]


def waiting(offset: int, position: int) -> Waiting:
    return Waiting(offset, Place(1, position), recorded(ROW))


def test_a_partition_never_read_is_read_from_its_beginning() -> None:
    held = HeldPartition(0, NEW)

    verdicts = judged(held, (7, 10), (8, 11))  # what came before has expired: that is no fault

    assert held.first_offset == BEGINNING
    assert verdicts == [Verdict.TAKE, Verdict.TAKE]


def test_reading_begins_at_the_last_message_that_counted_which_proves_that_nothing_is_missing() -> (
    None
):
    held = HeldPartition(0, Bookmark(Place(1, 10), 5))

    verdicts = judged(held, (4, 10), (5, 12))

    assert held.first_offset == 4
    assert verdicts == [Verdict.DROP, Verdict.TAKE]


def test_what_a_relay_published_again_is_dropped() -> None:
    held = HeldPartition(0, NEW)

    verdicts = judged(held, (0, 1), (1, 2), (2, 3), (3, 2), (4, 3), (5, 4))

    assert verdicts == [Verdict.TAKE] * 3 + [Verdict.DROP] * 2 + [Verdict.TAKE]
    assert held.read == Bookmark(Place(1, 4), 6)


def test_an_offset_of_another_topic_is_found_out_and_the_place_looked_for_from_the_beginning() -> (
    None
):
    held = HeldPartition(0, Bookmark(Place(1, 10), 5))

    at_the_offset = judged(held, (4, 30))
    from_the_beginning = judged(held, (0, 9), (1, 10), (2, 11))

    assert at_the_offset == [Verdict.READ_FROM_BEGINNING]
    assert from_the_beginning == [Verdict.DROP, Verdict.DROP, Verdict.TAKE]


def test_a_topic_that_begins_behind_the_place_is_refused() -> None:
    held = HeldPartition(3, Bookmark(Place(1, 10), 5))
    judged(held, (9, 30))

    with pytest.raises(EventsMissingError, match=r"partition 3 .* SESSIONTRAIL_KAFKA_TOPIC"):
        judged(held, (9, 30))


def test_a_topic_on_which_only_what_counted_has_expired_is_read_on() -> None:
    held = HeldPartition(0, Bookmark(Place(1, 10), 5))

    verdicts = judged(held, (5, 30), (5, 30), (6, 31))

    assert verdicts == [Verdict.READ_FROM_BEGINNING, Verdict.TAKE, Verdict.TAKE]


def test_a_bookmark_covers_what_was_passed_over_only_once_nothing_waits() -> None:
    held = HeldPartition(0, NEW)
    for offset, position in ((0, 1), (1, 2), (2, 3)):
        held.judge(offset, Place(1, position))
    held.waiting.extend([waiting(0, 1), waiting(1, 2)])  # nobody wants the third

    first, both = held.counted([held.waiting[0]]), held.counted(list(held.waiting))

    assert first == Bookmark(Place(1, 1), 1)
    assert both == Bookmark(Place(1, 3), 3)


def test_what_counted_waits_no_longer() -> None:
    held = HeldPartition(0, NEW)
    held.waiting.extend([waiting(0, 1), waiting(1, 2)])
    moved = Bookmark(Place(1, 1), 1)

    held.settle(1, moved)

    assert [each.offset for each in held.waiting] == [1]
    assert held.stored == moved
