from detector.findings import Response
from detector.rules.success_after_failures import RULE
from tests.unit.detector.builders import (
    HOSTING,
    HOUR,
    LAPTOP,
    OSLO,
    OSLO_MOBILE,
    PHONE,
    SCRIPT,
    TOKYO,
    Watch,
)


def guessed(tries: int, cookie: str | None = None) -> Watch:
    """Somebody in a data centre has guessed at Ada's password."""
    watch = Watch(RULE)
    watch.populate()
    watch.settle("ada", OSLO, LAPTOP, cookie=cookie)
    for _ in range(tries):
        watch.failure("ada", HOSTING)
        watch.wait(5)
    return watch


def test_a_guess_that_was_right_ends_the_session() -> None:
    watch = guessed(40)

    (finding,) = watch.sign_in("ada", HOSTING, SCRIPT)

    assert finding.response is Response.REVOKE_SESSION
    assert finding.facts[0].code == "failures_on_account"


def test_after_fewer_guesses_the_proof_is_asked_for() -> None:
    watch = guessed(10)

    (finding,) = watch.sign_in("ada", HOSTING, SCRIPT)

    assert finding.response is Response.STEP_UP


def test_a_success_from_a_network_that_did_not_guess_is_found_too() -> None:
    watch = guessed(40)

    assert len(watch.sign_in("ada", TOKYO, PHONE)) == 1


def test_the_owner_signs_in_at_home_unharmed_while_others_guess() -> None:
    watch = guessed(40)

    assert watch.sign_in("ada", OSLO, LAPTOP) == []


def test_the_owner_is_known_by_their_cookie_anywhere() -> None:
    watch = guessed(40, cookie="c1")

    assert watch.sign_in("ada", OSLO_MOBILE, LAPTOP, cookie="c1") == []


def test_a_password_mistyped_a_few_times_is_silent() -> None:
    watch = guessed(4)

    assert watch.sign_in("ada", HOSTING, LAPTOP) == []


def test_the_owners_own_mistakes_at_home_do_not_count() -> None:
    watch = Watch(RULE)
    watch.settle("ada", OSLO, LAPTOP)
    for _ in range(30):
        watch.failure("ada", OSLO)

    assert watch.sign_in("ada", OSLO, PHONE) == []


def test_guesses_are_forgotten_after_an_hour() -> None:
    watch = guessed(40)
    watch.wait(1.2 * HOUR)

    assert watch.sign_in("ada", HOSTING, SCRIPT) == []
