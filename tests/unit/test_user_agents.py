"""What a client is taken to be: by its hints, by its user agent, and where they contradict."""

import pytest
import user_agents
from hypothesis import given
from hypothesis import strategies as st

from domain.client import USER_AGENT_MAX_CHARS, ClientContext
from domain.evidence import UNKNOWN_DEVICE, Device
from infra.device_names import DeviceNames
from infra.user_agents import UserAgents

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
WINDOWS_CHROME = (
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/140.0.0.0 Safari/537.36"
)
WINDOWS_EDGE = f"{WINDOWS_CHROME} Edg/140.0.0.0"
MAC_CHROME = (
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Chrome/140.0.0.0 Safari/537.36"
)
LINUX_CHROME = f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} Chrome/140.0.0.0 Safari/537.36"
ANDROID_CHROME = (
    f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} Chrome/140.0.0.0 Mobile Safari/537.36"
)
ANDROID_TABLET = f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} Chrome/140.0.0.0 Safari/537.36"
WEBVIEW = (
    f"Mozilla/5.0 (Linux; Android 13; Pixel 7 Build/TQ3A; wv) {WEBKIT} Version/4.0 "
    "Chrome/140.0.0.0 Mobile Safari/537.36"
)
HEADLESS = f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} HeadlessChrome/140.0.0.0 Safari/537.36"
MAC_SAFARI = (
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {SAFARI} Version/18.5 Safari/605.1.15"
)
IPHONE = (
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) {SAFARI} Version/17.5 "
    "Mobile/15E148 Safari/604.1"
)
IPHONE_26 = (
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) {SAFARI} Version/26.0 "
    "Mobile/15E148 Safari/604.1"
)
IPAD_CHROME = (
    f"Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) {SAFARI} CriOS/126.0 Mobile/15E148 Safari/604.1"
)
WINDOWS_FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0"
UBUNTU_FIREFOX = "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"
ANDROID_FIREFOX = "Mozilla/5.0 (Android 14; Mobile; rv:143.0) Gecko/143.0 Firefox/143.0"
FIREFOX_TABLET = "Mozilla/5.0 (Android 13; Tablet; rv:143.0) Gecko/143.0 Firefox/143.0"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


def brands(name: str = "Google Chrome", version: int = 140, chromium: int = 140) -> str:
    return f'"{name}";v="{version}", "Chromium";v="{chromium}", "Not=A?Brand";v="24"'


def hints(
    platform: str = "Windows",
    mobile: str = "?0",
    brand_list: str | None = None,
    **more: str,
) -> dict[str, str]:
    """The three hints that Chromium sends unasked, and others by what follows ``sec-ch-ua-``."""
    return {
        "sec-ch-ua": brands() if brand_list is None else brand_list,
        "sec-ch-ua-mobile": mobile,
        "sec-ch-ua-platform": f'"{platform}"',
        **{f"sec-ch-ua-{name.replace('_', '-')}": f'"{value}"' for name, value in more.items()},
    }


def read(user_agent: str | None, told: dict[str, str] | None = None) -> Device:
    return UserAgents().device(ClientContext(user_agent=user_agent, hints=told or {}))


# --------------------------------------------------------------------------- the string alone


@pytest.mark.parametrize(
    ("user_agent", "signature"),
    [
        (WINDOWS_CHROME, "Windows/desktop/Chrome/Blink"),
        (WINDOWS_EDGE, "Windows/desktop/Edge/Blink"),
        (WINDOWS_FIREFOX, "Windows/desktop/Firefox/Gecko"),
        (UBUNTU_FIREFOX, "Linux/desktop/Firefox/Gecko"),
        (MAC_SAFARI, "macOS/desktop/Safari/WebKit"),
        (ANDROID_CHROME, "Android/mobile/Chrome/Blink"),
        (ANDROID_TABLET, "Android/tablet/Chrome/Blink"),
        (ANDROID_FIREFOX, "Android/mobile/Firefox/Gecko"),
        (FIREFOX_TABLET, "Android/tablet/Firefox/Gecko"),
        (WEBVIEW, "Android/mobile/Android WebView/Blink"),
        (IPHONE, "iOS/mobile/Safari/WebKit"),
        (IPAD_CHROME, "iOS/tablet/Chrome/WebKit"),
        (
            f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {WEBKIT} Chrome/140.0.0.0 Safari/537.36",
            "Chrome OS/desktop/Chrome/Blink",
        ),
        (
            (
                f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) {SAFARI} FxiOS/127.0 "
                "Mobile/15E148 Safari/605.1.15"
            ),
            "iOS/mobile/Firefox/WebKit",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko",
            "Windows/desktop/IE/Trident",
        ),
        (
            (
                f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/64.0.3282.140 "
                "Safari/537.36 Edge/18.17763"
            ),
            "Windows/desktop/Edge/EdgeHTML",
        ),
    ],
)
def test_a_browser_is_known_by_its_string(user_agent: str, signature: str) -> None:
    device = read(user_agent)

    assert device.signature == signature
    assert not device.hinted
    assert device.contradiction is None


def test_the_major_version_is_read() -> None:
    assert read(WINDOWS_CHROME).browser_version == 140
    assert read(ANDROID_FIREFOX).browser_version == 143


@pytest.mark.parametrize(
    ("user_agent", "version"),
    [
        (WINDOWS_CHROME, None),  # NT 10.0 is Windows 11 too
        (MAC_CHROME, None),  # 10_15_7 is any
        (ANDROID_CHROME, None),  # 10 is any, beside the model K
        (WEBVIEW, "13"),
        (ANDROID_FIREFOX, "14"),
        (IPHONE, "17.5"),
        (IPHONE_26, "26"),  # 18_6 is what it says for ever
    ],
)
def test_a_frozen_version_is_not_told(user_agent: str, version: str | None) -> None:
    assert read(user_agent).platform_version == version


def test_the_frozen_model_is_not_told() -> None:
    assert read(ANDROID_CHROME).model is None
    assert read(WEBVIEW).model == "Pixel 7"
    assert read(MAC_SAFARI).model is None


def test_an_ipad_that_says_mac_cannot_be_told_from_one() -> None:
    assert read(MAC_SAFARI).signature == "macOS/desktop/Safari/WebKit"


@pytest.mark.parametrize(
    ("user_agent", "family", "version"),
    [
        ("curl/8.5.0", "curl", 8),
        ("python-requests/2.31.0", "Python Requests", 2),
        ("python-httpx/0.27.0", "python-httpx", 0),
        ("Go-http-client/1.1", "Go-http-client", 1),
        ("okhttp/4.12.0", "okhttp", 4),
        ("Java/17.0.2", "Java", 17),
        ("Python-urllib/3.11", "Python-urllib", 3),
        ("Wget/1.21", "Wget", 1),
        ("axios/1.6.0", "axios", 1),
        ("node", "node", None),
        ("HomeMade/3.2", "HomeMade", 3),
    ],
)
def test_an_http_library_has_a_family_of_its_own(
    user_agent: str, family: str, version: int | None
) -> None:
    device = read(user_agent)

    assert (device.browser, device.browser_version, device.form) == (family, version, "other")


@pytest.mark.parametrize(
    ("user_agent", "signature"),
    [
        ("Dalvik/2.1.0 (Linux; U; Android 13; Pixel 7)", "Android/mobile/Dalvik/?"),
        ("MyApp/1.2 (iPhone; iOS 17.0; Scale/3.00)", "iOS/mobile/MyApp/?"),
        ("MyApp/1 CFNetwork/1410.0.3 Darwin/22.6.0", "iOS/mobile/MyApp/?"),
    ],
)
def test_an_app_has_its_name_and_the_form_of_its_device(user_agent: str, signature: str) -> None:
    assert read(user_agent).signature == signature


@pytest.mark.parametrize("user_agent", [GOOGLEBOT, HEADLESS, "AhrefsBot/7.0"])
def test_a_bot_is_a_bot(user_agent: str) -> None:
    assert read(user_agent).form == "bot"


@pytest.mark.parametrize("user_agent", [None, "", "Mozilla/4.0", "(", "\x00\ud800"])
def test_a_string_that_says_nothing_is_unknown(user_agent: str | None) -> None:
    assert read(user_agent) == UNKNOWN_DEVICE


def test_what_is_behind_512_characters_is_not_read() -> None:
    padded = "Mozilla/5.0 " + "x" * USER_AGENT_MAX_CHARS + " Firefox/143.0"

    assert read(padded).browser is None


@given(
    st.none() | st.text(max_size=700),
    st.dictionaries(st.sampled_from([*hints(model="x")]), st.text(max_size=300)),
)
def test_nothing_that_a_client_sends_makes_it_raise(
    user_agent: str | None, told: dict[str, str]
) -> None:
    device = read(user_agent, told)

    assert device.form in {"desktop", "mobile", "tablet", "bot", "other"}
    assert len(device.signature) < 200


# --------------------------------------------------------------------------- hints over strings


def test_hints_tell_what_the_string_hides() -> None:
    told = hints("Windows", brand_list=brands("Brave"), platform_version="15.0.0")

    device = read(WINDOWS_CHROME, told)

    assert device == Device(
        platform="Windows",
        platform_version="11",
        form="desktop",
        browser="Brave",
        browser_version=140,
        engine="Blink",
        hinted=True,
    )


def test_hints_tell_the_model_of_a_phone() -> None:
    told = hints("Android", "?1", platform_version="15.0.0", model="Pixel 9")

    device = read(ANDROID_CHROME, told)

    assert (device.model, device.platform_version) == ("Pixel 9", "15.0.0")
    assert device.signature == "Android/mobile/Chrome/Blink"


def test_hints_alone_are_enough() -> None:
    assert read(None, hints("macOS")).signature == "macOS/desktop/Chrome/Blink"


@pytest.mark.parametrize(
    ("platform", "mobile", "form"),
    [
        ("Android", "?1", "mobile"),
        ("Android", "?0", "tablet"),
        ("Windows", "?0", "desktop"),
        ("Chrome OS", "?0", "desktop"),
    ],
)
def test_hints_tell_the_form(platform: str, mobile: str, form: str) -> None:
    assert read(None, hints(platform, mobile)).form == form


@pytest.mark.parametrize(
    ("user_agent", "told"),
    [
        (WINDOWS_CHROME, hints("Windows")),
        (WINDOWS_EDGE, hints("Windows", brand_list=brands("Microsoft Edge"))),
        (ANDROID_CHROME, hints("Android", "?1")),
        (ANDROID_TABLET, hints("Android", "?0")),
        (WEBVIEW, hints("Android", "?1", brand_list=brands("Android WebView"))),
    ],
)
def test_the_same_client_has_the_same_signature_with_and_without_hints(
    user_agent: str, told: dict[str, str]
) -> None:
    assert read(user_agent, told).signature == read(user_agent).signature


def test_hints_that_are_empty_were_not_sent() -> None:
    assert not read(WINDOWS_CHROME, {"sec-ch-ua": "", "sec-ch-ua-platform": '""'}).hinted
    assert not read(WINDOWS_CHROME, {"sec-ch-viewport-width": "800"}).hinted


def test_a_program_that_names_itself_is_believed_rather_than_its_hints() -> None:
    assert read("curl/8.5.0", hints()).browser == "curl"
    assert read(GOOGLEBOT, hints()).form == "bot"


def test_a_headless_browser_is_a_bot_whatever_its_string_says() -> None:
    assert read(LINUX_CHROME, hints("Linux", brand_list=brands("HeadlessChrome"))).form == "bot"


# ------------------------------------------------------------------------------ contradictions


@pytest.mark.parametrize(
    ("user_agent", "told", "contradiction"),
    [
        (WINDOWS_CHROME, hints("Linux"), "platform: Windows, but the hints say Linux"),
        (MAC_CHROME, hints("Windows"), "platform: macOS, but the hints say Windows"),
        (
            ANDROID_CHROME,
            hints("Android", "?0"),
            "form: mobile, but the hints say not",
        ),
        (ANDROID_TABLET, hints("Android", "?1"), "form: not mobile, but the hints say so"),
        (WINDOWS_FIREFOX, hints("Windows"), "engine: Gecko, but the hints say Blink"),
        (MAC_SAFARI, hints("macOS"), "engine: WebKit, but the hints say Blink"),
        (
            WINDOWS_CHROME,
            hints("Windows", brand_list=brands(version=131, chromium=131)),
            "engine: Chromium 140, but the hints say 131",
        ),
        (
            IPHONE,
            hints("Linux"),
            "platform: iOS, but the hints say Linux; engine: WebKit, but the hints say Blink",
        ),
        ("curl/8.5.0", hints(), "browser: curl, but the hints say Chrome"),
        (
            "python-requests/2.31.0",
            {"sec-ch-ua-mobile": "?0"},
            "browser: Python Requests, but the hints say a browser",
        ),
    ],
)
def test_a_string_that_says_another_thing_than_its_hints_contradicts_them(
    user_agent: str, told: dict[str, str], contradiction: str
) -> None:
    assert read(user_agent, told).contradiction == contradiction


@pytest.mark.parametrize(
    ("user_agent", "told"),
    [
        (WINDOWS_CHROME, {}),
        (WINDOWS_FIREFOX, {}),
        (WINDOWS_CHROME, {"sec-ch-ua": brands()}),
        (WINDOWS_CHROME, {"sec-ch-ua-mobile": "?0"}),
        (WINDOWS_CHROME, {"sec-ch-ua-platform": '"Windows"'}),
        (WINDOWS_CHROME, hints("Unknown")),
        (WINDOWS_CHROME, hints("Fuchsia")),
        (None, hints()),
        ("", hints()),
    ],
)
def test_what_is_missing_contradicts_nothing(user_agent: str | None, told: dict[str, str]) -> None:
    assert read(user_agent, told).contradiction is None


def test_a_phone_that_is_asked_for_the_desktop_site_contradicts_nothing() -> None:
    kept, changed = hints("Android", "?1"), hints("Linux", "?0")

    assert read(LINUX_CHROME, kept).contradiction is None
    assert read(LINUX_CHROME, changed).contradiction is None


def test_a_browser_that_hides_behind_chrome_contradicts_nothing() -> None:
    brave = hints("Windows", brand_list=brands("Brave"))
    opera = hints("Windows", brand_list=brands("Opera", version=124))

    assert read(WINDOWS_CHROME, brave).contradiction is None
    assert read(f"{WINDOWS_CHROME} OPR/124.0.0.0", opera).contradiction is None


def test_an_app_around_a_web_view_contradicts_nothing() -> None:
    told = hints("Android", "?1", brand_list=brands("Android WebView"))

    device = read("MyApp/3.1", told)

    assert (device.browser, device.contradiction) == ("MyApp", None)


# ----------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("user_agent", "told", "name"),
    [
        (WINDOWS_CHROME, {}, "Chrome on Windows"),
        (ANDROID_CHROME, {}, "Chrome on Android"),
        (IPHONE, {}, "Safari on iOS"),
        (WINDOWS_CHROME, {"sec-ch-ua-platform": '"Chrome OS"'}, "Chrome on Chrome OS"),
        ("curl/8.5.0", {}, "curl"),
        (None, {"sec-ch-ua-platform": '"Windows"'}, "Windows"),
        (None, {}, None),
    ],
)
def test_a_device_is_listed_by_its_browser_and_its_platform(
    user_agent: str | None, told: dict[str, str], name: str | None
) -> None:
    assert DeviceNames().describe(user_agent, told) == name


# ---------------------------------------------------------------------------------- an oracle


@pytest.mark.parametrize(
    "user_agent",
    [
        *(WINDOWS_CHROME, WINDOWS_EDGE, WINDOWS_FIREFOX, MAC_CHROME, MAC_SAFARI, LINUX_CHROME),
        *(UBUNTU_FIREFOX, ANDROID_CHROME, ANDROID_TABLET, ANDROID_FIREFOX, WEBVIEW, IPHONE),
        *(IPHONE_26, IPAD_CHROME, GOOGLEBOT),
    ],
)
def test_user_agents_with_its_own_parser_gives_the_same_class_and_versions(
    user_agent: str,
) -> None:
    theirs = user_agents.parse(user_agent)
    classes = {
        "bot": theirs.is_bot,
        "mobile": theirs.is_mobile,
        "tablet": theirs.is_tablet,
        "desktop": theirs.is_pc,
    }

    ours = read(user_agent)

    assert classes[ours.form]
    assert ours.browser_version == theirs.browser.version[0]
    assert ours.browser in theirs.browser.family or ours.browser == "Android WebView"
