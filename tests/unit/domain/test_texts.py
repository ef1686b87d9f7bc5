"""Passwords, user names and device names: what is accepted, in which form, and why not."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.texts import (
    InvalidTextError,
    accept_new_password,
    clean_comment,
    clean_device_name,
    normalise_password,
    normalise_subject,
    normalise_username,
    storable,
)

NO_BLOCKLIST: frozenset[str] = frozenset()
CONTROL_CHARACTERS = ["\x00", "\t", "\n", "\x1f", "\x7f", "\x80", "\x9f", "\ud800", "\udfff"]
PRINTABLE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
MARKED = st.text(
    "aiI\u0130\u0131ß\u017fΣς\u0345\u0301\u0307\u0339Å\u212bﬁ①ǅ ", min_size=1, max_size=6
)


# Passwords


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        " leading and trailing spaces ",
        "пароль на кириллице",
        "密码密码密码密码",
        "🔑" * 8,
        "👩‍👩‍👧‍👦 family",
        "x" * 73,
        "x" * 1024,
        "é" * 1024,
    ],
    ids=range(9),
)
def test_password_oddities(password: str) -> None:
    """Any script, any length up to the limit (bcrypt's 72 bytes are none); nothing is truncated."""
    normalised = accept_new_password(password, NO_BLOCKLIST)

    assert normalised == password
    assert normalise_password(password) == normalised


def test_combining_characters_and_precomposed_ones_are_one_password() -> None:
    composed, decomposed = "p\u00e4ssw\u00f6rd", "pa\u0308sswo\u0308rd"

    assert normalise_password(decomposed) == normalise_password(composed) == composed


def test_compatibility_characters_are_not_folded_in_a_password() -> None:
    assert normalise_password("\ufb01\u2460\uff21") == "\ufb01\u2460\uff21"


def test_case_counts_in_a_password() -> None:
    assert normalise_password("PassWord") == "PassWord"


@pytest.mark.parametrize("length", [1025, 1024 * 1024])
def test_a_password_that_is_too_long_is_refused_and_not_cut(length: int) -> None:
    with pytest.raises(InvalidTextError, match=r"^a password has at most 1024 characters$"):
        normalise_password("x" * length)


@pytest.mark.parametrize("character", CONTROL_CHARACTERS, ids=ascii)
def test_a_password_holds_no_control_character(character: str) -> None:
    with pytest.raises(InvalidTextError, match=r"^a password holds no control characters$"):
        normalise_password(f"correct{character}horse")


def test_a_new_password_has_eight_characters() -> None:
    assert accept_new_password("12345678", NO_BLOCKLIST) == "12345678"

    with pytest.raises(InvalidTextError, match=r"^a password has at least 8 characters$"):
        accept_new_password("1234567", NO_BLOCKLIST)


def test_a_new_password_is_measured_in_its_normalised_form() -> None:
    """Eight code points as typed, seven as hashed."""
    with pytest.raises(InvalidTextError, match=r"^a password has at least 8 characters$"):
        accept_new_password("passwoe\u0301", NO_BLOCKLIST)


def test_an_old_password_may_be_shorter_than_a_new_one() -> None:
    assert normalise_password("") == ""
    assert normalise_password("1234567") == "1234567"


@pytest.mark.parametrize("password", ["password1", "PassWord1", "PASSWORD1"])
def test_a_common_password_is_refused_in_any_case(password: str) -> None:
    with pytest.raises(
        InvalidTextError,
        match=r"^this password is among the most common ones; choose another$",
    ):
        accept_new_password(password, frozenset({"password1"}))


def test_a_password_that_holds_a_common_one_is_accepted() -> None:
    assert accept_new_password("password12", frozenset({"password1"})) == "password12"


@given(password=PRINTABLE)
def test_a_normalised_password_is_its_own_normalised_form(password: str) -> None:
    normalised = normalise_password(password)

    assert normalise_password(normalised) == normalised
    assert normalise_password(unicodedata.normalize("NFD", password)) == normalised


# User names


@pytest.mark.parametrize(
    ("typed", "normalised"),
    [
        ("ada@example.com", "ada@example.com"),
        ("  Ada@Example.COM\u00a0", "ada@example.com"),
        ("\uff21\uff44\uff41", "ada"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("\uff3a\uff2f\uff25\u0308", "zo\u00eb"),
        ("Åsa", "\u00e5sa"),
        ("A\u030asa", "\u00e5sa"),
        ("\u0391\u03a3", "\u03b1\u03c3"),
        ("\u03b1\u03c2", "\u03b1\u03c3"),
    ],
)
def test_a_user_name_is_looked_up_whatever_its_case_width_and_composition(
    typed: str, normalised: str
) -> None:
    assert normalise_username(typed) == normalised


def test_both_cases_of_a_name_with_several_marks_are_one_name() -> None:
    """Folding the capital leaves its dot before the mark below, which canonical order forbids."""
    capital, small = "\u0130\u0339", "i\u0339\u0307"

    assert normalise_username(capital) == normalise_username(small)


@given(name=PRINTABLE | MARKED)
def test_a_normalised_user_name_is_its_own_normalised_form(name: str) -> None:
    try:
        normalised = normalise_username(name)
    except InvalidTextError:
        return

    assert normalise_username(normalised) == normalised
    assert normalise_username(unicodedata.normalize("NFD", name)) == normalised


def test_a_user_name_has_at_most_254_characters() -> None:
    assert normalise_username("a" * 254) == "a" * 254

    with pytest.raises(InvalidTextError, match=r"^a user name has at most 254 characters$"):
        normalise_username("a" * 255)


@pytest.mark.parametrize("name", ["", "   ", "\u3000"], ids=["empty", "spaces", "wide space"])
def test_a_user_name_is_not_empty(name: str) -> None:
    with pytest.raises(InvalidTextError, match=r"^a user name is not empty$"):
        normalise_username(name)


@pytest.mark.parametrize("character", CONTROL_CHARACTERS, ids=ascii)
def test_a_user_name_holds_no_control_character(character: str) -> None:
    with pytest.raises(InvalidTextError, match=r"^a user name holds no control characters$"):
        normalise_username(f"ada{character}lovelace")


# Device names


@pytest.mark.parametrize(
    "name",
    [
        "Ada’s laptop",
        "הטלפון של עדה",
        "\u202eevil\u202c",
        "📱👩🏽‍💻",
        "<script>alert(1)</script>",
        "'; DROP TABLE sessions; --",
        "{{ 7 * 7 }}",
        "a" * 100,
        "📱" * 100,
    ],
    ids=range(9),
)
def test_unicode_device_name(name: str) -> None:
    """Kept as text, as typed: showing it safely is the business of whoever shows it."""
    assert clean_device_name(name) == name


def test_a_device_name_is_composed_and_trimmed_and_keeps_its_case() -> None:
    assert clean_device_name("  Zoe\u0308’s ﬁne Phone\n") == "Zo\u00eb’s ﬁne Phone"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "a device name is not empty"),
        (" \n ", "a device name is not empty"),
        ("a" * 101, "a device name has at most 100 characters"),
        ("a\x00b", "a device name holds no control characters"),
        ("a\nb", "a device name holds no control characters"),
        ("a\ud83d", "a device name holds no control characters"),
    ],
    ids=range(6),
)
def test_a_device_name_that_is_none_is_refused(name: str, message: str) -> None:
    with pytest.raises(InvalidTextError, match=f"^{message}$"):
        clean_device_name(name)


def test_a_reason_that_is_none_is_refused_as_a_reason() -> None:
    with pytest.raises(InvalidTextError, match=r"^a reason is not empty$"):
        clean_comment(" ", "reason")


# Subjects and foreign text


def test_a_subject_is_kept_as_it_is() -> None:
    assert normalise_subject(" Auth0|5f7C e\u0308 ") == " Auth0|5f7C e\u0308 "


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        ("", "a subject is not empty"),
        ("a" * 255, "a subject has at most 254 characters"),
        ("a\x00", "a subject holds no control characters"),
    ],
    ids=["empty", "long", "NUL"],
)
def test_a_subject_that_is_none_is_refused(subject: str, message: str) -> None:
    with pytest.raises(InvalidTextError, match=f"^{message}$"):
        normalise_subject(subject)


def test_what_jsonb_cannot_hold_is_replaced_and_nothing_else() -> None:
    assert storable("a\x00b\ud800c\udfffd") == "a\ufffdb\ufffdc\ufffdd"
    assert storable("\t\n\x1f\x7f é 📱 \u202e\uffff") == "\t\n\x1f\x7f é 📱 \u202e\uffff"
    assert storable("") == ""


@given(text=st.text(st.characters(codec=None), max_size=50))
def test_storable_text_can_be_stored_and_stays_as_it_is(text: str) -> None:
    stored = storable(text)

    assert "\x00" not in stored
    assert len(stored.encode("utf-8").decode("utf-8")) == len(text)
    assert storable(stored) == stored


def test_the_spaces_of_all_scripts_are_one_space_in_a_password() -> None:
    assert normalise_password("pass\u3000word\u00a0x") == "pass word x"
