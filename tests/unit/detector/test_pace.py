"""The worker's pace: one event that cannot be judged is found, and nothing else is lost by it."""

from detector.pace import Pace
from domain.ids import EventId

GOOD, BAD = EventId("good"), EventId("bad")


def test_it_takes_full_batches_until_one_fails_and_then_one_event_at_a_time() -> None:
    pace = Pace(50)
    before = pace.limit()

    pace.careful()

    assert (before, pace.limit()) == (50, 1)


def test_it_gives_up_on_an_event_that_failed_alone_and_on_no_other() -> None:
    pace = Pace(50)
    pace.careful()

    first = pace.gives_up_on([GOOD])
    pace.went_well()
    second = pace.gives_up_on([BAD])
    pace.careful()
    third = pace.gives_up_on([BAD])

    assert (first, second, third) == (False, False, True)


def test_an_event_that_succeeds_at_the_second_try_is_not_given_up_on_later() -> None:
    pace = Pace(50)
    pace.careful()
    pace.gives_up_on([GOOD])
    pace.went_well()

    assert not pace.gives_up_on([GOOD])


def test_it_gives_up_on_nothing_while_all_goes_well() -> None:
    pace = Pace(1)

    assert not pace.gives_up_on([BAD])
    assert not pace.gives_up_on([BAD])


def test_it_goes_back_to_full_batches_once_a_whole_one_went_well() -> None:
    pace = Pace(3)
    pace.careful()

    limits = []
    for _ in range(4):
        limits.append(pace.limit())
        pace.went_well()

    assert limits == [1, 1, 1, 3]


def test_it_rests_longer_after_each_failure_until_something_goes_well() -> None:
    pace = Pace(50)

    rests = [pace.rest() for _ in range(5)]
    pace.went_well()

    assert rests == sorted(rests)
    assert rests[-1] <= 5
    assert pace.rest() == rests[0]
