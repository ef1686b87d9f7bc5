from detector.findings import Response
from detector.rules.success_in_burst import RULE
from tests.unit.detector.builders import (
    HOSTING,
    HOUR,
    LAPTOP,
    OSLO,
    PHONE,
    SCRIPT,
    Watch,
    moved,
)


def stuffed(tries: int = 30) -> Watch:
    """A data centre is trying a list of names, one of which is Ada's."""
    watch = Watch(RULE)
    watch.populate()
    watch.settle("ada", OSLO, LAPTOP)
    for number in range(tries):
        watch.failure(f"name{number}", HOSTING)
        watch.wait(1)
    return watch


def test_a_password_that_was_on_the_list_ends_the_session() -> None:
    watch = stuffed()

    (finding,) = watch.sign_in("ada", HOSTING, SCRIPT)

    assert finding.response is Response.REVOKE_SESSION


def test_a_browser_that_looks_like_the_owners_has_to_prove_itself() -> None:
    watch = stuffed()

    (finding,) = watch.sign_in("ada", HOSTING, LAPTOP)

    assert finding.response is Response.STEP_UP


def test_it_is_found_of_accounts_that_were_never_used_before() -> None:
    watch = stuffed()

    assert len(watch.sign_in("eve", HOSTING, SCRIPT)) == 1


def test_a_sign_in_from_elsewhere_is_not_part_of_the_burst() -> None:
    watch = stuffed()

    assert watch.sign_in("ada", OSLO, PHONE) == []


def test_a_few_mistyped_passwords_are_no_burst() -> None:
    watch = stuffed(tries=6)

    assert watch.sign_in("ada", HOSTING, SCRIPT) == []


def test_a_burst_is_over_after_an_hour() -> None:
    watch = stuffed()
    watch.wait(1.2 * HOUR)

    assert watch.sign_in("ada", HOSTING, SCRIPT) == []


def test_the_right_guess_of_a_spray_has_to_prove_itself() -> None:
    watch = Watch(RULE)
    watch.settle("ada", OSLO, LAPTOP)
    for number in range(60):
        watch.failure(f"name{number}", moved(HOSTING, number % 12))
        watch.wait(20)

    (finding,) = watch.sign_in("ada", moved(HOSTING, 3), SCRIPT)

    assert finding.response is Response.STEP_UP


def test_an_owner_in_a_hotel_where_somebody_stuffs_is_known_by_their_cookie() -> None:
    watch = Watch(RULE)
    watch.settle("ada", OSLO, LAPTOP, cookie="c1")
    for number in range(40):
        watch.failure(f"name{number}", HOSTING)

    assert watch.sign_in("ada", HOSTING, LAPTOP, cookie="c1") == []
