"""Reads the client hints (``Sec-CH-UA*``) that Chromium sends: W3C User-Agent Client Hints."""

import re
from dataclasses import dataclass

HINT_NAMES = (
    "sec-ch-ua",
    "sec-ch-ua-full-version-list",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-ch-ua-platform-version",
    "sec-ch-ua-model",
)
"""The hints that are read, in the order in which ``read_hints`` takes them."""

PLATFORMS = frozenset({"Android", "Chrome OS", "iOS", "Linux", "macOS", "Windows"})
"""The platforms whose names are certain, so that two of them can be told to differ."""

NAME_MAX_CHARS = 40
"""The most that is kept of a name that a client makes up."""

_HINT_MAX_CHARS = 512
_LONGEST_MAJOR = 6
_BRAND = re.compile(r'"((?:[^"\\]|\\.)*)"\s*;\s*v\s*=\s*"(\d*)[^"]*"')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_NOT_A_LETTER = re.compile(r"[^a-z]")
_CHROMIUM = "Chromium"
_FAMILIES = {
    "Google Chrome": "Chrome",
    "Microsoft Edge": "Edge",
    "Microsoft Edge WebView2": "Edge WebView2",
    "YaBrowser": "Yandex Browser",
}
"""Brands whose families have another name in user agent strings."""
_PLATFORM_NAMES = {"Chromium OS": "Chrome OS", "Mac OS X": "macOS", "Unknown": None, "": None}
_WINDOWS_VERSIONS = {"0.1": "7", "0.2": "8", "0.3": "8.1"}
_FIRST_WINDOWS_11 = 13  # the major platform version: learn.microsoft.com, "Detect Windows 11"


@dataclass(frozen=True, slots=True)
class ClientHints:
    """What the hints say; None is not told, which means nothing.

    Attributes:
        browser: Family of the browser's own brand; ``Chromium`` where that is the only one.
        browser_version: Its major version.
        chromium_version: Major version of the Chromium that it is made of.
        mobile: Whether it wants pages for small screens.
        platform: One of ``PLATFORMS``, or what else the client calls it.
        platform_version: As people call it: ``11`` for Windows 11.
        model: Device model.
    """

    browser: str | None = None
    browser_version: int | None = None
    chromium_version: int | None = None
    mobile: bool | None = None
    platform: str | None = None
    platform_version: str | None = None
    model: str | None = None

    @property
    def are_sent(self) -> bool:
        """Whether any of the three is there that Chromium sends unasked."""
        return self.browser is not None or self.mobile is not None or self.platform is not None


def read_hints(values: tuple[str | None, ...]) -> ClientHints:
    """Read hints.

    Args:
        values: Header values in the order of ``HINT_NAMES``; None where a header is absent.

    Returns:
        What they say; nothing of what cannot be read.
    """
    brands, full_brands, mobile, platform, version, model = (
        None if value is None else value[:_HINT_MAX_CHARS] for value in values
    )
    majors = _majors(brands or "") or _majors(full_brands or "")
    browser = _own_brand(majors)
    named = _text(platform)
    named = _PLATFORM_NAMES.get(named or "", named)
    return ClientHints(
        browser=None if browser is None else _FAMILIES.get(browser, browser),
        browser_version=None if browser is None else majors[browser],
        chromium_version=majors.get(_CHROMIUM),
        mobile={"?1": True, "?0": False}.get((mobile or "").strip()),
        platform=named,
        platform_version=_version(named, _text(version)),
        model=_text(model),
    )


def cleaned(name: str) -> str | None:
    """A name fit to be kept and shown: printable, one line, cut; None where nothing is left."""
    printable = "".join(character for character in name if character.isprintable())
    return printable[:NAME_MAX_CHARS].strip() or None


def _majors(brand_list: str) -> dict[str, int | None]:
    """Major versions by brand, without GREASE."""
    majors: dict[str, int | None] = {}
    for quoted, digits in _BRAND.findall(brand_list):
        name = cleaned(quoted)
        if name is not None and not _is_grease(name):
            majors[name] = int(digits) if 0 < len(digits) <= _LONGEST_MAJOR else None
    return majors


def _is_grease(brand: str) -> bool:
    """Whether it is a made-up brand, ``Not?A_Brand`` in changing punctuation.

    >>> [_is_grease(name) for name in (" Not A;Brand", "Not)A=Brand", "Not/A)Brand", "Brave")]
    [True, True, True, False]
    """
    return _NOT_A_LETTER.sub("", brand.lower()) in {"notabrand", "notbrand"}


def _own_brand(majors: dict[str, int | None]) -> str | None:
    """The most particular brand; by name where several are, since their order changes."""
    for general in ((_CHROMIUM, "Google Chrome"), (_CHROMIUM,), ()):
        particular = sorted(set(majors) - set(general))
        if particular:
            return particular[0]
    return None


def _text(value: str | None) -> str | None:
    """A quoted string (RFC 9651 §3.3.3), or what a careless client sends unquoted."""
    if value is None:
        return None
    quoted = _QUOTED.search(value)
    return cleaned(value if quoted is None else quoted[1])


def _version(platform: str | None, version: str | None) -> str | None:
    if platform != "Windows" or version is None:
        return version
    major, _, rest = version.partition(".")
    if not major.isascii() or not major.isdigit() or len(major) > _LONGEST_MAJOR:
        return None
    if int(major) == 0:
        return _WINDOWS_VERSIONS.get(f"0.{rest.partition('.')[0]}")
    return "11" if int(major) >= _FIRST_WINDOWS_11 else "10"
