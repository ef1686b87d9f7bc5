"""Reads what a client says it is: ``domain.evidence.DeviceReader``."""

from functools import lru_cache

from domain.client import USER_AGENT_MAX_CHARS, ClientContext
from domain.evidence import UNKNOWN_DEVICE, Device
from infra.client_hints import HINT_NAMES, PLATFORMS, ClientHints, read_hints
from infra.user_agent_strings import Kind, UserAgentString, read_user_agent

_CACHED = 10_000
_DESKTOPS = frozenset({"Chrome OS", "Linux", "Windows", "macOS"})


class UserAgents:
    """Client hints first, then the user agent string; answers are remembered."""

    def device(self, client: ClientContext) -> Device:
        """The device of a client; what is not told stays unset. Never raises."""
        hints = client.hints
        values = tuple(map(hints.get, HINT_NAMES)) if hints else None
        user_agent = client.user_agent
        return _device(None if user_agent is None else user_agent[:USER_AGENT_MAX_CHARS], values)


@lru_cache(maxsize=_CACHED)
def _device(user_agent: str | None, values: tuple[str | None, ...] | None) -> Device:
    """One cache for the process: an answer depends on nothing else."""
    text = read_user_agent(user_agent) if user_agent else None
    hints = read_hints(values) if values is not None else ClientHints()
    if not hints.are_sent:
        return UNKNOWN_DEVICE if text is None else _as_told(text, None, hinted=False)
    if text is None:
        return _as_hinted(hints, UserAgentString(Kind.BROWSER), None)
    contradiction = contradiction_of(text, hints)
    if text.kind in {Kind.LIBRARY, Kind.BOT}:  # rather believed than what it sends along
        return _as_told(text, contradiction, hinted=True)
    return _as_hinted(hints, text, contradiction)


def _as_told(text: UserAgentString, contradiction: str | None, *, hinted: bool) -> Device:
    return Device(
        platform=text.platform,
        platform_version=text.platform_version,
        form=text.form,
        browser=text.browser,
        browser_version=text.browser_version,
        engine=text.engine,
        model=text.model,
        hinted=hinted,
        contradiction=contradiction,
    )


def _as_hinted(hints: ClientHints, text: UserAgentString, contradiction: str | None) -> Device:
    platform = hints.platform or text.platform
    is_headless = hints.browser == "HeadlessChrome"
    browser, version = (
        (text.browser, text.browser_version)
        if hints.browser is None or text.kind is Kind.APP
        else (hints.browser, hints.browser_version)
    )
    told_version = text.platform_version if platform == text.platform else None
    return Device(
        platform=platform,
        platform_version=hints.platform_version or told_version,
        form="bot" if is_headless else _form(hints.mobile, platform, text.form),
        browser=browser,
        browser_version=version,
        engine="Blink" if hints.chromium_version is not None else text.engine,
        model=hints.model or (text.model if platform == text.platform else None),
        hinted=True,
        contradiction=contradiction,
    )


def _form(mobile: bool | None, platform: str | None, told: str) -> str:
    if mobile:
        return "mobile"
    if mobile is None:
        return "desktop" if told == "other" and platform in _DESKTOPS else told
    if platform == "Android":
        return "tablet"
    return "desktop" if platform in _DESKTOPS or told == "mobile" else told


def contradiction_of(text: UserAgentString, hints: ClientHints) -> str | None:
    """How a user agent string contradicts the client hints beside it.

    A hint that is missing is unknown and contradicts nothing. Neither does a string without any
    hints: Firefox and Safari send none, and Chromium none over plain HTTP.

    Args:
        text: What the string says.
        hints: What the hints say.

    Returns:
        Such as ``platform: Windows, but the hints say Linux``; None where they fit.
    """
    if text.kind is Kind.LIBRARY:
        sender = hints.browser or "a browser"
        return f"browser: {text.browser}, but the hints say {sender}"
    found = []
    # A phone asked for the desktop site says "X11; Linux"; not every browser changes its hints too.
    is_desktop_site = text.platform == "Linux" and hints.platform == "Android"
    platforms = {text.platform, hints.platform}
    if not is_desktop_site and len(platforms) > 1 and platforms <= PLATFORMS:
        found.append(f"platform: {text.platform}, but the hints say {hints.platform}")
    if (
        not is_desktop_site
        and text.engine == "Blink"
        and hints.mobile is not None
        and hints.mobile != text.asks_for_mobile
        and text.kind is Kind.BROWSER
    ):
        said, hinted = ("mobile", "not") if text.asks_for_mobile else ("not mobile", "so")
        found.append(f"form: {said}, but the hints say {hinted}")
    if hints.chromium_version is not None and text.engine not in {None, "Blink"}:
        found.append(f"engine: {text.engine}, but the hints say Blink")
    elif (
        hints.chromium_version is not None
        and text.chromium_version is not None
        and hints.chromium_version != text.chromium_version
    ):  # the major version is the one that is not frozen in the string
        found.append(
            f"engine: Chromium {text.chromium_version}, but the hints say {hints.chromium_version}"
        )
    return "; ".join(found) or None
