from detector.groups import group_key
from detector.rules.brute_force import RULE
from tests.unit.detector.builders import DAY, HOSTING, HOUR, LAPTOP, OSLO, TOKYO, Watch, moved


def test_the_twentieth_guess_is_found() -> None:
    watch = Watch(RULE)

    found = [watch.failure("ada", HOSTING) for _ in range(25)]

    assert not any(found[:19])
    assert all(found[19:])


def test_guesses_from_many_networks_are_added_up() -> None:
    watch = Watch(RULE)

    found = [watch.failure("ada", moved(HOSTING, number)) for number in range(20)]

    assert found[19]


def test_an_account_is_one_alert_and_two_are_two() -> None:
    watch = Watch(RULE)
    (ada,) = watch.failures(HOSTING.prefix, {"ada": 30})
    (bob,) = watch.failures(TOKYO.prefix, {"bob": 30})
    (again,) = watch.failures(HOSTING.prefix, {"ada": 30})

    assert group_key(ada) == group_key(again) != group_key(bob)


def test_somebody_who_forgot_their_password_at_home_is_left_alone() -> None:
    watch = Watch(RULE)
    watch.sign_in("ada", OSLO, LAPTOP)
    watch.wait(2 * DAY)

    for _ in range(60):
        assert watch.failure("ada", OSLO) == []


def test_somebody_who_forgot_their_password_on_a_journey_is_left_alone() -> None:
    watch = Watch(RULE)

    for _ in range(12):
        assert watch.failure("ada", TOKYO) == []


def test_a_device_with_an_old_password_that_tries_now_and_then_is_left_alone() -> None:
    watch = Watch(RULE)

    for _ in range(100):
        assert watch.failure("ada", TOKYO) == []
        watch.wait(HOUR / 6)


def test_guesses_counted_with_those_of_other_sources_count_for_the_account() -> None:
    watch = Watch(RULE)

    assert len(watch.failures(None, {"ada": 25, "bob": 1})) == 1
