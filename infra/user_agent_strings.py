"""Reads user agent strings: who it is, as far as the string tells it.

Much of a string is frozen and tells nothing: Windows 11 says NT 10.0, Android in Chrome says
"10; K", macOS says 10_15_7, Safari 26 on iOS says 18; Brave says Chrome, an iPad says Mac.
"""

import re
from dataclasses import dataclass
from enum import Enum
from functools import cache

from ua_parser import Device as ParsedDevice
from ua_parser import Domain, PartialResult
from ua_parser import UserAgent as ParsedBrowser
from ua_parser.loaders import load_lazy_builtins
from ua_parser.regex import Resolver
from user_agents.parsers import Browser, Device, OperatingSystem, UserAgent

from infra.client_hints import cleaned

_BROWSER_FAMILIES = {
    "Chrome Mobile": "Chrome",
    "Chrome Mobile iOS": "Chrome",
    "Chrome Mobile WebView": "Android WebView",
    "Edge Mobile": "Edge",
    "Firefox Mobile": "Firefox",
    "Firefox iOS": "Firefox",
    "Mobile Safari": "Safari",
    "Mobile Safari UI/WKWebView": "WKWebView",
    "Opera Mobile": "Opera",
}
"""The parser's names that say the form or the engine too, which have fields of their own."""
_PLATFORMS = {
    "Mac OS X": "macOS",
    "Chromium OS": "Chrome OS",
    "Arch Linux": "Linux",
    "CentOS": "Linux",
    "Debian": "Linux",
    "Fedora": "Linux",
    "Gentoo": "Linux",
    "Linux Mint": "Linux",
    "Mageia": "Linux",
    "Mandriva": "Linux",
    "PCLinuxOS": "Linux",
    "Red Hat": "Linux",
    "SUSE": "Linux",
    "Slackware": "Linux",
    "Ubuntu": "Linux",
}
_LIBRARIES = frozenset(
    {
        *("Apache-HttpClient", "Deno", "Faraday", "Go-http-client", "Google-HTTP-Java-Client"),
        *("GuzzleHttp", "HTTPClient", "HTTPie", "Jakarta", "Java", "Java-http-client"),
        *("PHP", "PostmanRuntime", "Python", "Python Requests", "Python aiohttp", "Python-urllib"),
        *("Ruby", "Wget", "WinHTTP", "WindowsPowerShell", "aiohttp", "axios", "curl", "got"),
        *("insomnia", "libwww-perl", "node", "node-fetch", "okhttp", "python-httpx", "reqwest"),
        *("ruby", "undici"),
    }
)
_HEADLESS = frozenset({"HeadlessChrome", "PhantomJS"})
_ENGINES = (
    ("Trident/", "Trident"),
    ("Edge/", "EdgeHTML"),
    ("Chrome/", "Blink"),
    ("AppleWebKit/", "WebKit"),
)
"""The first token that is there decides: Blink says AppleWebKit too, EdgeHTML says both."""
_PRODUCT = re.compile(r"([A-Za-z][A-Za-z0-9._+-]{0,39})(?:[/ ]v?(\d{1,6}))?")
_CHROMIUM_VERSION = re.compile(r"Chrome/(\d{1,6})")
_BROWSER_PRODUCTS = ("Mozilla", "Opera")
_FROZEN_MODEL = "K"
_FROZEN_VERSIONS = {("Windows", "10"), ("macOS", "10.15")}
_FIRST_SAFARI_WITH_FROZEN_IOS = 26
_LONGEST_MAJOR = 6


class Kind(Enum):
    """What sort of program names itself."""

    BROWSER = "browser"
    APP = "app"
    LIBRARY = "library"
    BOT = "bot"


@dataclass(frozen=True, slots=True)
class UserAgentString:
    """What a user agent string says; None is not told.

    Attributes:
        kind: The sort of program.
        browser: Its family; of an app or a library its own name.
        browser_version: Its major version.
        engine: The engine, in a browser.
        chromium_version: Major version of Chromium, where it is made of that.
        platform: The operating system.
        platform_version: Its version, where the string is not frozen.
        form: As in ``domain.evidence.Device``.
        model: Model of a phone or tablet.
        asks_for_mobile: Whether it wants pages for small screens.
    """

    kind: Kind
    browser: str | None = None
    browser_version: int | None = None
    engine: str | None = None
    chromium_version: int | None = None
    platform: str | None = None
    platform_version: str | None = None
    form: str = "other"
    model: str | None = None
    asks_for_mobile: bool = False


@cache
def _resolver() -> Resolver:
    """Built when it is first needed: a fifth of a second and 26 MB."""
    return Resolver(load_lazy_builtins())


class _DeviceClass(UserAgent):  # type: ignore[misc] # it is published without types
    """user-agents' answers of what class a device is, without its parser: 40 times as slow."""

    def __init__(self, text: str, parsed: PartialResult) -> None:
        browser, device = parsed.user_agent or ParsedBrowser(), parsed.device or ParsedDevice()
        version = _dotted(parsed)
        self.ua_string = text
        self.browser = Browser(browser.family, (), "")
        self.device = Device(device.family, device.brand, device.model)
        self.os = OperatingSystem(parsed.os.family if parsed.os else "Other", (), version or "")


def read_user_agent(text: str) -> UserAgentString:
    """Read a string of any content.

    Args:
        text: The User-Agent header, already cut.

    Returns:
        What it says.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")  # the parser takes no lone surrogates
    parsed = _resolver()(text, Domain.ALL)
    family = parsed.user_agent.family if parsed.user_agent else None
    named_product = _PRODUCT.match(text)
    product = named_product[1] if named_product else None
    is_browser = product in _BROWSER_PRODUCTS
    platform = None if parsed.os is None else _PLATFORMS.get(parsed.os.family, parsed.os.family)

    if family in _LIBRARIES or product in _LIBRARIES:
        known, major = (family, _major(parsed)) if family in _LIBRARIES else (product, None)
        return UserAgentString(
            Kind.LIBRARY, known, major or _product_major(named_product), platform=platform
        )
    if family in _HEADLESS or (parsed.device is not None and parsed.device.family == "Spider"):
        return UserAgentString(
            Kind.BOT,
            _family(family) or product,
            _major(parsed),
            engine=_engine(text, platform),
            chromium_version=_chromium_version(text),
            platform=platform,
            form="bot",
        )
    if not is_browser and (platform is not None or family is None):
        return UserAgentString(
            Kind.APP,
            product,
            _product_major(named_product),
            platform=platform,
            platform_version=_platform_version(platform, parsed),
            form=_form_of_app(text, platform, parsed),
            model=_model(parsed),
        )
    form = _form(text, parsed)
    return UserAgentString(
        Kind.BROWSER,
        _family(family),
        _major(parsed),
        engine=_engine(text, platform),
        chromium_version=_chromium_version(text),
        platform=platform,
        platform_version=_platform_version(platform, parsed),
        form=form,
        model=_model(parsed) if form in {"mobile", "tablet"} else None,
        asks_for_mobile="Mobile" in text,
    )


def _family(name: str | None) -> str | None:
    return None if name is None else _BROWSER_FAMILIES.get(name, cleaned(name))


def _number(digits: str | None) -> int | None:
    if digits is None or len(digits) > _LONGEST_MAJOR or not digits.isdecimal():
        return None
    return int(digits)


def _major(parsed: PartialResult) -> int | None:
    return _number(parsed.user_agent.major) if parsed.user_agent else None


def _product_major(product: re.Match[str] | None) -> int | None:
    return None if product is None else _number(product[2])


def _chromium_version(text: str) -> int | None:
    found = _CHROMIUM_VERSION.search(text)
    return None if found is None else int(found[1])


def _engine(text: str, platform: str | None) -> str | None:
    if platform == "iOS":
        return "WebKit"  # Apple allows no other, whatever the browser is called
    for token, engine in _ENGINES:
        if token in text:
            return engine
    return "Gecko" if "Gecko/" in text else None


def _dotted(parsed: PartialResult) -> str | None:
    if parsed.os is None or parsed.os.major is None:
        return None
    parts = (parsed.os.major, parsed.os.minor)
    return cleaned(".".join(part for part in parts if part is not None))


def _platform_version(platform: str | None, parsed: PartialResult) -> str | None:
    version = _dotted(parsed)
    if (platform, version) in _FROZEN_VERSIONS:
        return None
    if platform == "Android" and parsed.device and parsed.device.model == _FROZEN_MODEL:
        return None
    if platform == "iOS" and parsed.user_agent and "Safari" in parsed.user_agent.family:
        safari = _major(parsed)
        if safari is not None and safari >= _FIRST_SAFARI_WITH_FROZEN_IOS:
            return str(safari)  # iOS and its Safari have had one number since
    return version


def _model(parsed: PartialResult) -> str | None:
    device = parsed.device
    if device is None or device.model is None or device.model == _FROZEN_MODEL:
        return None
    if device.brand is None or device.brand == "Generic":
        return None
    return cleaned(device.model)


def _form(text: str, parsed: PartialResult) -> str:
    classed = _DeviceClass(text, parsed)
    # Before is_mobile, which Chrome on an iPad and Firefox on an Android tablet are as well.
    if classed.device.family == "iPad" or "Tablet" in text:
        return "tablet"
    if classed.is_mobile:
        return "mobile"
    if classed.is_tablet:
        return "tablet"
    return "desktop" if classed.is_pc else "other"


def _form_of_app(text: str, platform: str | None, parsed: PartialResult) -> str:
    """Apps do not say "Mobile", which the Android rule for browsers looks for."""
    if platform == "Android":
        return "tablet" if "Tablet" in text else "mobile"
    return _form(text, parsed)
