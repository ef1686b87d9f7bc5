from detector.sliding import WINDOW_S
from detector.tries import NO_TRIES, Tries, made_good, with_hidden, with_tries
from tests.unit.detector.builders import MINUTE, START


def tried(*accounts: str, at: float = START, limit: int = 64) -> Tries:
    tries = NO_TRIES
    for account in accounts:
        tries = with_tries(tries, account, 1, at, limit)
    return tries


def test_tries_are_counted_by_account() -> None:
    tries = tried("ada", "bob", "ada")

    assert tries.total(START) == 3
    assert tries.accounts(START, at_most=5) == 2
    assert tries.of("ada", START) == 2


def test_an_account_that_is_hammered_is_not_one_of_those_tried_a_few_times() -> None:
    tries = tried("ada", *["bob"] * 6)

    assert tries.accounts(START, at_most=5) == 1


def test_what_made_room_is_still_numbered() -> None:
    tries = tried(*(f"user{number}" for number in range(500)), limit=64)

    assert len(tries.tried) == 64
    assert tries.total(START) == 500
    assert tries.accounts(START, at_most=5) == 500


def test_after_an_hour_nothing_counts() -> None:
    tries = with_hidden(tried("ada", "bob"), 10, 0, 3, START)

    later = START + WINDOW_S + 6 * MINUTE

    assert tries.total(later) == 0
    assert tries.accounts(later, at_most=5) == 0


def test_a_burst_across_the_turn_of_any_window_is_counted_whole() -> None:
    tries = NO_TRIES
    for number in range(60):
        tries = with_tries(tries, f"user{number}", 1, START + number * MINUTE, 8)

    assert tries.total(START + 59 * MINUTE) == 60


def test_names_that_nobody_has_count_as_half_as_many_accounts() -> None:
    at_once = with_hidden(NO_TRIES, 30, 30, 0, START)
    one_by_one = NO_TRIES
    for _ in range(30):
        one_by_one = with_hidden(one_by_one, 1, 1, 0, START)

    assert at_once.accounts(START, at_most=5) == 15
    assert one_by_one.accounts(START, at_most=5) == 15


def test_a_mistyped_password_is_taken_back_when_its_owner_gets_in() -> None:
    tries = made_good(tried("ada", "bob", "bob"), "bob")

    assert tries.total(START) == 1
    assert tries.of("bob", START) == 0


def test_a_success_after_many_tries_takes_nothing_back() -> None:
    tries = tried(*["bob"] * 9)

    assert made_good(tries, "bob") is tries
