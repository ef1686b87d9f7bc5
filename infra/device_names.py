"""Names a device from what its client says of itself, for the lists that people read."""

from collections.abc import Mapping
from functools import lru_cache

_CACHED = 10_000


class DeviceNames:
    """``api.ports.DeviceNames``: client hints first where there are any, then the user agent."""

    def describe(self, user_agent: str | None, hints: Mapping[str, str]) -> str | None:
        """Such as ``Chrome on Windows``, or None where nothing is known."""
        platform = hints.get("sec-ch-ua-platform", "").strip('"') or None
        return _described(user_agent or "", platform)


@lru_cache(maxsize=_CACHED)
def _described(user_agent: str, platform: str | None) -> str | None:
    """Cached: parsing takes most of a millisecond, and there are few user agents."""
    from user_agents import parse  # noqa: PLC0415 (3 MB, for lists only)

    parsed = parse(user_agent)
    browser = parsed.browser.family if parsed.browser.family != "Other" else None
    system = platform or (parsed.os.family if parsed.os.family != "Other" else None)
    if browser is None and system is None:
        return None
    if browser is None or system is None:
        return browser or system
    return f"{browser} on {system}"
