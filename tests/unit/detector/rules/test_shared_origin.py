from detector.findings import Finding, Response
from detector.rules.new_country import RULE as NEW_COUNTRY
from detector.rules.risky_sign_in import RULE as RISKY
from detector.rules.shared_origin import RULE
from tests.unit.detector.builders import (
    DAY,
    LAPTOP,
    OSLO,
    OTHER_PHONE,
    TOKYO,
    Watch,
    moved,
)

THIEF = moved(TOKYO, 9)


def watch_over(*users: str) -> Watch:
    watch = Watch(RULE, NEW_COUNTRY, RISKY)
    watch.populate()
    for user in users:
        for _ in range(6):
            watch.sign_in(user, OSLO, LAPTOP)
        watch.wait(DAY)
    watch.wait(6 * DAY)
    for user in users:
        watch.sign_in(user, OSLO, LAPTOP)
    watch.wait(DAY)
    return watch


def of_crowd(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.rule == "shared-origin"]


def test_the_third_victim_of_one_thief_ends_the_family() -> None:
    watch = watch_over("ada", "bob", "cyd", "dan")

    found = [of_crowd(watch.sign_in(user, THIEF, OTHER_PHONE)) for user in ("ada", "bob", "cyd")]

    assert found[:2] == [[], []]
    assert found[2][0].response is Response.REVOKE_FAMILY
    assert found[2][0].family_id is not None


def test_every_further_victim_is_part_of_the_same_alert() -> None:
    watch = watch_over("ada", "bob", "cyd", "dan")
    for user in ("ada", "bob"):
        watch.sign_in(user, THIEF, OTHER_PHONE)

    (third,) = of_crowd(watch.sign_in("cyd", THIEF, OTHER_PHONE))
    (fourth,) = of_crowd(watch.sign_in("dan", THIEF, OTHER_PHONE))

    assert third.group == fourth.group


def test_one_victim_three_times_is_one_victim() -> None:
    watch = watch_over("ada")

    for _ in range(5):
        assert of_crowd(watch.sign_in("ada", THIEF, OTHER_PHONE)) == []


def test_victims_of_different_networks_are_not_one_thiefs() -> None:
    watch = watch_over("ada", "bob", "cyd", "dan")

    for number, user in enumerate(("ada", "bob", "cyd", "dan")):
        assert of_crowd(watch.sign_in(user, moved(TOKYO, number), OTHER_PHONE)) == []


def test_after_a_day_it_starts_anew() -> None:
    watch = watch_over("ada", "bob", "cyd", "dan")

    for user in ("ada", "bob", "cyd", "dan"):
        assert of_crowd(watch.sign_in(user, THIEF, OTHER_PHONE)) == []
        watch.wait(0.7 * DAY)


def test_a_conference_hotel_with_hundreds_of_guests_is_silent() -> None:
    guests = [f"guest{number}" for number in range(60)]
    watch = watch_over(*guests)

    for user in guests:
        assert of_crowd(watch.sign_in(user, THIEF, LAPTOP)) == []


def test_a_few_alarms_in_a_network_of_many_are_not_one_thief() -> None:
    watch = watch_over("ada", "bob", "cyd")
    for number in range(30):
        watch.sign_in(f"guest{number}", THIEF, LAPTOP)

    for user in ("ada", "bob", "cyd"):
        assert of_crowd(watch.sign_in(user, THIEF, OTHER_PHONE)) == []


def test_one_device_cookie_is_one_thief_in_a_network_of_many() -> None:
    watch = watch_over("ada", "bob", "cyd")
    for number in range(30):
        watch.sign_in(f"guest{number}", THIEF, LAPTOP)

    for user in ("ada", "bob"):
        watch.sign_in(user, THIEF, OTHER_PHONE, cookie="thief")

    assert len(of_crowd(watch.sign_in("cyd", THIEF, OTHER_PHONE, cookie="thief"))) == 1


def test_what_is_only_on_record_does_not_count() -> None:
    watch = Watch(RULE, RISKY)
    watch.populate()
    for user in ("ada", "bob", "cyd"):
        for _ in range(3):
            watch.sign_in(user, OSLO, LAPTOP)
            watch.wait(DAY)

    found = [watch.sign_in(user, TOKYO, LAPTOP) for user in ("ada", "bob", "cyd")]

    assert all(of_crowd(each) == [] for each in found)
