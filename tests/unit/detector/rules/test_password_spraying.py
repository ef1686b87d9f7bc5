from detector.findings import Finding
from detector.groups import group_key
from detector.rules.password_spraying import RULE
from tests.unit.detector.builders import (
    DAY,
    HOSTING,
    HOUR,
    LAPTOP,
    MINUTE,
    OSLO,
    PHONE,
    Watch,
    moved,
)


def sprayed(watch: Watch, tries: int, sources: int = 20, pause: float = 10) -> list[list[Finding]]:
    found = []
    for number in range(tries):
        found.append(watch.failure(f"name{number % 90}", moved(HOSTING, number % sources)))
        watch.wait(pause)
    return found


def test_the_twenty_fifth_try_from_many_sources_is_found() -> None:
    watch = Watch(RULE)

    found = sprayed(watch, 40)

    assert not any(found[:24])
    assert found[24]
    assert all(found[24:])


def test_it_is_one_alert_wherever_it_comes_from() -> None:
    watch = Watch(RULE)

    found = sprayed(watch, 400)

    assert len({group_key(finding) for each in found for finding in each}) == 1


def test_low_and_slow_is_found_within_the_hour() -> None:
    watch = Watch(RULE)

    found = sprayed(watch, 60, sources=30, pause=1.5 * MINUTE)

    assert any(found)


def test_sources_that_are_merged_into_one_count_are_many() -> None:
    watch = Watch(RULE)

    found = watch.failures(None, {f"name{number}": 1 for number in range(30)})

    assert len(found) == 1


def test_one_source_alone_is_another_rules() -> None:
    watch = Watch(RULE)

    for number in range(200):
        assert watch.failure(f"name{number}", HOSTING) == []


def test_four_sources_do_not_make_a_spray() -> None:
    watch = Watch(RULE)

    assert not any(sprayed(watch, 200, sources=4))


def test_people_mistype_and_get_in() -> None:
    watch = Watch(RULE)
    for number in range(400):
        assert watch.failure(f"user{number}", moved(OSLO, number)) == []
        watch.wait(3)
        watch.sign_in(f"user{number}", moved(OSLO, number), PHONE)


def test_many_users_who_give_up_are_what_many_sign_ins_make_one_expect() -> None:
    """Three in a hundred give up; two thousand an hour sign in: sixty failures an hour."""
    watch = Watch(RULE)
    found = []
    for number in range(12_000):
        watch.sign_in(f"user{number}", moved(OSLO, number % 4000), LAPTOP)
        if number % 33 == 0:
            found += watch.failure(f"lost{number}", moved(OSLO, number % 3000))
        watch.wait(1.8)

    assert found == []


def test_a_spray_stands_out_among_many_users() -> None:
    watch = Watch(RULE)
    found = []
    for number in range(12_000):
        watch.sign_in(f"user{number}", moved(OSLO, number % 4000), LAPTOP)
        if number % 33 == 0:
            watch.failure(f"lost{number}", moved(OSLO, number % 3000))
        if number > 10_000 and number % 6 == 0:
            found += watch.failure(f"name{number}", moved(HOSTING, 6000 + number % 50))
        watch.wait(1.8)

    assert found


def test_after_it_has_ended_it_is_silent() -> None:
    watch = Watch(RULE)
    sprayed(watch, 100)
    watch.wait(2 * HOUR)

    assert watch.failure("ada", HOSTING) == []
    watch.wait(3 * DAY)
    assert watch.failure("ada", OSLO) == []
