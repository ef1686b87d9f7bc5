from msgspec.structs import replace

from detector.findings import Finding
from detector.groups import Raise, Repeat, group_key, grouped
from detector.rules.credential_stuffing import RULE
from tests.unit.detector.builders import (
    DAY,
    HOSTING,
    LAPTOP,
    MINUTE,
    OSLO,
    TOKYO,
    Watch,
)


def test_the_twenty_fifth_try_is_found_at_once() -> None:
    watch = Watch(RULE)

    found = [watch.failure(f"name{number}", HOSTING) for number in range(25)]

    assert not any(found[:24])
    assert found[24][0].rule == "credential-stuffing"
    assert found[24][0].user_id is None


def test_windows_of_counts_are_judged_as_single_failures_are() -> None:
    watch = Watch(RULE)
    first = {f"name{number}": 1 for number in range(16)}
    second = {f"more{number}": 1 for number in range(16)}

    assert watch.failures(HOSTING.prefix, first) == []
    assert len(watch.failures(HOSTING.prefix, second)) == 1


def test_names_that_nobody_has_are_enough() -> None:
    watch = Watch(RULE)

    assert len(watch.failures(HOSTING.prefix, {}, unknown=40)) == 1


def test_accounts_that_are_not_named_are_enough() -> None:
    watch = Watch(RULE)

    assert len(watch.failures(HOSTING.prefix, {}, others=30, omitted=30)) == 1


def test_ten_thousand_failures_are_one_alert() -> None:
    watch = Watch(RULE)
    findings: list[Finding] = []
    for number in range(10_000):
        findings += watch.failure(f"name{number}", HOSTING)
        watch.wait(0.05)

    told: list[Raise | Repeat | None] = []
    state = None
    for finding in findings:
        state, outcome = grouped(state, finding)
        told.append(outcome)

    assert len({group_key(finding) for finding in findings}) == 1
    assert sum(isinstance(each, Raise) for each in told) == 1
    assert sum(each is not None for each in told) < 15


def test_a_slow_list_is_found_within_the_hour() -> None:
    watch = Watch(RULE)
    found: list[Finding] = []
    for number in range(40):
        found += watch.failure(f"name{number}", HOSTING)
        watch.wait(1.3 * MINUTE)

    assert found


def test_one_account_hammered_is_another_rules() -> None:
    watch = Watch(RULE)
    for _ in range(300):
        assert watch.failure("ada", HOSTING) == []


def test_five_hundred_people_behind_a_proxy_mistype_in_peace() -> None:
    watch = Watch(RULE)
    staff = [f"staff{number}" for number in range(500)]
    for user in staff:
        watch.sign_in(user, OSLO, LAPTOP)
    watch.wait(2 * DAY)

    for user in staff[:200]:
        assert watch.failure(user, OSLO) == []


def test_guests_of_a_hotel_mistype_once_and_get_in() -> None:
    watch = Watch(RULE)
    for number in range(100):
        assert watch.failure(f"guest{number}", TOKYO) == []
        watch.wait(10)
        watch.sign_in(f"guest{number}", TOKYO, LAPTOP)


def test_somebody_who_mistypes_their_own_name_is_not_a_crowd() -> None:
    watch = Watch(RULE)

    for _ in range(25):
        assert watch.failures(TOKYO.prefix, {}, unknown=1) == []


def test_failures_of_many_sources_counted_together_blame_none() -> None:
    watch = Watch(RULE)

    assert watch.failures(None, {f"name{number}": 1 for number in range(32)}, unknown=100) == []


def test_each_source_has_an_alert_of_its_own() -> None:
    watch = Watch(RULE)
    other = replace(HOSTING, prefix="233.252.9.0/24")
    (one,) = watch.failures(HOSTING.prefix, {}, others=30, omitted=30)
    (two,) = watch.failures(other.prefix, {}, others=30, omitted=30)

    assert group_key(one) != group_key(two)
