"""Client hints: what is read from them, and that nothing else is made of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.client_hints import HINT_NAMES, NAME_MAX_CHARS, ClientHints, read_hints

CHROME = '"Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140"'


def read(**by_suffix: str) -> ClientHints:
    """Read hints named by what follows ``sec-ch-ua``; the brand list is ``brands``."""
    headers = {
        "sec-ch-ua" if suffix == "brands" else f"sec-ch-ua-{suffix.replace('_', '-')}": value
        for suffix, value in by_suffix.items()
    }
    assert set(headers) <= set(HINT_NAMES)
    return read_hints(tuple(headers.get(name) for name in HINT_NAMES))


def test_no_hints_say_nothing() -> None:
    hints = read()

    assert hints == ClientHints()
    assert not hints.are_sent


@pytest.mark.parametrize(
    "grease",
    [" Not A;Brand", "Not/A)Brand", "Not?A_Brand", ";Not A Brand", "Not(A:Brand", "Not.A/Brand"],
)
def test_made_up_brands_are_ignored_in_any_punctuation(grease: str) -> None:
    hints = read(brands=f'"{grease}";v="99", "Google Chrome";v="140", "Chromium";v="140"')

    assert (hints.browser, hints.browser_version) == ("Chrome", 140)


def test_a_brand_list_of_made_up_brands_alone_names_no_browser() -> None:
    hints = read(brands='"Not=A?Brand";v="24"')

    assert hints.browser is None
    assert not hints.are_sent


@pytest.mark.parametrize(
    ("brands", "family", "version"),
    [
        (CHROME, "Chrome", 140),
        ('"Microsoft Edge";v="139", "Chromium";v="140"', "Edge", 139),
        ('"Brave";v="140", "Chromium";v="140"', "Brave", 140),
        ('"Opera";v="124", "Not)A;Brand";v="8", "Chromium";v="140"', "Opera", 124),
        ('"Samsung Internet";v="28", "Chromium";v="130"', "Samsung Internet", 28),
        ('"Android WebView";v="140", "Chromium";v="140"', "Android WebView", 140),
        ('"YaBrowser";v="25.8", "Chromium";v="138", "Yowser";v="2"', "Yandex Browser", 25),
        ('"Chromium";v="140", "Not=A?Brand";v="24"', "Chromium", 140),
    ],
)
def test_the_browsers_own_brand_is_its_family(brands: str, family: str, version: int) -> None:
    hints = read(brands=brands)

    assert (hints.browser, hints.browser_version) == (family, version)


def test_the_order_of_brands_does_not_matter() -> None:
    brands = ['"Chromium";v="140"', '"Google Chrome";v="140"', '"Vivaldi";v="7"']

    one, other = read(brands=", ".join(brands)), read(brands=", ".join(reversed(brands)))

    assert one == other
    assert one.browser == "Vivaldi"


def test_punctuation_within_a_brand_does_not_part_the_list() -> None:
    hints = read(brands=r'"A, \"B\"; v=1";v="7", "Chromium";v="140"')

    assert hints.browser_version == 7
    assert hints.chromium_version == 140


def test_the_full_version_list_serves_where_the_short_one_is_missing() -> None:
    hints = read(
        full_version_list='"Chromium";v="140.0.7339.81", "Google Chrome";v="140.0.7339.81"'
    )

    assert (hints.browser, hints.browser_version, hints.chromium_version) == ("Chrome", 140, 140)


def test_a_brand_without_a_number_has_no_version() -> None:
    hints = read(brands='"Brave";v="", "Chromium";v="99999999"')

    assert (hints.browser, hints.browser_version, hints.chromium_version) == ("Brave", None, None)


@pytest.mark.parametrize(("value", "mobile"), [("?1", True), ("?0", False), ("1", None)])
def test_mobile_is_a_structured_boolean(value: str, mobile: bool) -> None:
    assert read(mobile=value).mobile is mobile


@pytest.mark.parametrize(
    ("value", "platform"),
    [
        ('"Windows"', "Windows"),
        ("Windows", "Windows"),
        ('"Chromium OS"', "Chrome OS"),
        ('"Unknown"', None),
        ('""', None),
        ('"Fuchsia"', "Fuchsia"),
    ],
)
def test_platforms_have_one_name_each(value: str, platform: str | None) -> None:
    assert read(platform=value).platform == platform


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ('"15.0.0"', "11"),
        ('"13.0.0"', "11"),
        ('"10.0.0"', "10"),
        ('"1.0.0"', "10"),
        ('"0.3.0"', "8.1"),
        ('"0.1.0"', "7"),
        ('"0.9"', None),
        ('"x"', None),
    ],
)
def test_versions_of_windows_are_those_that_people_know(told: str, version: str | None) -> None:
    assert read(platform='"Windows"', platform_version=told).platform_version == version


def test_versions_of_other_platforms_are_kept_as_told() -> None:
    assert read(platform='"macOS"', platform_version='"15.5.0"').platform_version == "15.5.0"


def test_an_empty_model_is_none() -> None:
    assert read(model='""').model is None
    assert read(model='"Pixel 7"').model == "Pixel 7"


def test_names_are_cut_and_have_no_control_characters() -> None:
    hints = read(model='"' + "\x00\n\u202e" + "a" * 400 + '"')

    assert hints.model == "a" * NAME_MAX_CHARS


@given(st.tuples(*[st.none() | st.text(max_size=600)] * len(HINT_NAMES)))
def test_no_header_makes_it_raise(values: tuple[str | None, ...]) -> None:
    hints = read_hints(values)

    assert len(hints.platform or "") <= NAME_MAX_CHARS


@given(st.text(alphabet='"\\;v=, 0a?', max_size=600))
def test_no_brand_list_makes_it_raise(brands: str) -> None:
    hints = read(brands=brands)

    assert hints.browser_version is None or hints.browser is not None
