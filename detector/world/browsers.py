"""Devices and what their browsers say of themselves, with versions that follow the calendar.

User agents are frozen where the real ones are: Windows says NT 10.0, Android "10; K", macOS
10_15_7, iOS 18_7. Chromium sends its low-entropy client hints, Firefox and Safari send none.
"""

import json
from enum import StrEnum
from functools import lru_cache
from random import Random

import msgspec

from detector.world.atlas import Spot

_RELEASE_DAYS = 28
_CHROMIUM_AT_START = 143
_FIREFOX_AT_START = 146
_FIRST_RELEASE_DAY = 8
_GREASE = (
    '"Not A(Brand";v="24"',
    '"Not=A?Brand";v="8"',
    '"Not;A=Brand";v="99"',
    '"Not.A/Brand";v="8"',
)
_DEVICE_ID_SHARE = 0.6


class Form(StrEnum):
    """What kind of thing a device is."""

    MOBILE = "mobile"
    DESKTOP = "desktop"
    TABLET = "tablet"


class Model(msgspec.Struct, frozen=True):
    """A browser on a platform. ``agent`` is a template over ``version`` and ``os``."""

    name: str
    form: Form
    agent: str
    brand: str | None = None
    """The brand in ``sec-ch-ua``; None where the engine sends no hints."""
    platform: str = ""
    engine: str = "chromium"
    weight: int = 1


_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
_IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15"
_WINDOWS = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT}"
_MACOS = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT}"
_ANDROID = f"Mozilla/5.0 (Linux; Android 10; K) {_WEBKIT}"
_CHROME = "Chrome/{version}.0.0.0"
_MAC_SAFARI = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/{version} Safari/605.1.15"
)

MODELS = (
    Model(
        "Safari on iPhone",
        Form.MOBILE,
        _IPHONE + " (KHTML, like Gecko) Version/{version} Mobile/15E148 Safari/604.1",
        engine="safari",
        weight=38,
    ),
    Model(
        "Chrome on Android",
        Form.MOBILE,
        f"{_ANDROID} {_CHROME} Mobile Safari/537.36",
        "Google Chrome",
        "Android",
        weight=44,
    ),
    Model(
        "Samsung Internet",
        Form.MOBILE,
        f"{_ANDROID} SamsungBrowser/29.0 {_CHROME} Mobile Safari/537.36",
        "Samsung Internet",
        "Android",
        weight=8,
    ),
    Model(
        "Chrome on iPhone",
        Form.MOBILE,
        _IPHONE + " (KHTML, like Gecko) CriOS/{version}.0.7499.108 Mobile/15E148 Safari/604.1",
        weight=6,
    ),
    Model(
        "Firefox on Android",
        Form.MOBILE,
        "Mozilla/5.0 (Android 15; Mobile; rv:{version}.0) Gecko/{version}.0 Firefox/{version}.0",
        engine="firefox",
        weight=3,
    ),
    Model(
        "Chrome on Windows",
        Form.DESKTOP,
        f"{_WINDOWS} {_CHROME} Safari/537.36",
        "Google Chrome",
        "Windows",
        weight=44,
    ),
    Model(
        "Edge on Windows",
        Form.DESKTOP,
        f"{_WINDOWS} {_CHROME} Safari/537.36" + " Edg/{version}.0.0.0",
        "Microsoft Edge",
        "Windows",
        weight=16,
    ),
    Model(
        "Chrome on macOS",
        Form.DESKTOP,
        f"{_MACOS} {_CHROME} Safari/537.36",
        "Google Chrome",
        "macOS",
        weight=14,
    ),
    Model("Safari on macOS", Form.DESKTOP, _MAC_SAFARI, engine="safari", weight=14),
    Model(
        "Firefox on Windows",
        Form.DESKTOP,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:{version}.0) Gecko/20100101 "
        "Firefox/{version}.0",
        engine="firefox",
        weight=9,
    ),
    Model(
        "Firefox on Linux",
        Form.DESKTOP,
        "Mozilla/5.0 (X11; Linux x86_64; rv:{version}.0) Gecko/20100101 Firefox/{version}.0",
        engine="firefox",
        weight=3,
    ),
    Model("Safari on iPad", Form.TABLET, _MAC_SAFARI, engine="safari", weight=6),
    Model(
        "Chrome on an Android tablet",
        Form.TABLET,
        f"{_ANDROID} {_CHROME} Safari/537.36",
        "Google Chrome",
        "Android",
        weight=4,
    ),
)
_BY_FORM = {form: [model for model in MODELS if model.form is form] for form in Form}
_FORMS = (Form.MOBILE, Form.DESKTOP, Form.TABLET)
_FORM_WEIGHTS = (70, 26, 3)


class Device(msgspec.Struct):
    """A device that somebody signs in on.

    Attributes:
        model: Its browser and platform.
        lag_days: How long after a release it updates itself.
        device_id: Its web cookie; None for clients without one.
        has_hints: False where a thief copied the user agent and not the hints.
        pinned_day: The day whose versions it keeps; None where it updates.
    """

    model: Model
    lag_days: float
    device_id: str | None = None
    has_hints: bool = True
    pinned_day: int | None = None

    def version(self, day: int) -> int:
        """Which release of its browser it runs on a day of the world."""
        day = day if self.pinned_day is None else self.pinned_day
        return int((day - self.lag_days - _FIRST_RELEASE_DAY) // _RELEASE_DAYS) + 1

    def client(self, spot: Spot, day: int, *, geo: bool) -> str:
        """What its request from there shows, as JSON members without braces."""
        headers = _headers(self.model, self.version(day), self.has_hints)
        cookie = f',"device_id":"{self.device_id}"' if self.device_id else ""
        place = f',"geo":{spot.geo}' if geo else ""
        return f'"ip":"{spot.ip}",{headers}{cookie}{place}'


def any_form(dice: Random) -> Form:
    """Mobile 70, desktop 26, tablet 3 of 99 (the published RBA data set)."""
    return dice.choices(_FORMS, _FORM_WEIGHTS)[0]


def any_device(dice: Random, form: Form | None = None, *, engine: str | None = None) -> Device:
    """A device of a form, with the browsers that people have."""
    models = _BY_FORM[form or any_form(dice)]
    if engine is not None:
        models = [model for model in models if model.engine == engine] or models
    return device_of(dice.choices(models, [model.weight for model in models])[0], dice)


def device_of(model: Model, dice: Random) -> Device:
    """A device of a model, with or without a cookie."""
    device_id = f"d{dice.getrandbits(80):020x}" if dice.random() < _DEVICE_ID_SHARE else None
    return Device(model, dice.expovariate(1 / 4), device_id)


@lru_cache(maxsize=1024)
def _headers(model: Model, release: int, has_hints: bool) -> str:
    version = _version_text(model.engine, release)
    agent = json.dumps(model.agent.format(version=version))
    if model.brand is None or not has_hints:
        return f'"user_agent":{agent}'
    hints = {
        "sec-ch-ua": _brands(model, _CHROMIUM_AT_START + release),
        "sec-ch-ua-mobile": "?1" if model.form is Form.MOBILE else "?0",
        "sec-ch-ua-platform": f'"{model.platform}"',
    }
    return f'"user_agent":{agent},"hints":{json.dumps(hints, separators=(",", ":"))}'


def _version_text(engine: str, release: int) -> str:
    match engine:
        case "firefox":
            return str(_FIREFOX_AT_START + release)
        case "safari":
            return f"26.{2 + release}" if release >= -2 else f"18.{8 + release}"  # noqa: PLR2004
        case _:
            return str(_CHROMIUM_AT_START + release)


def _brands(model: Model, version: int) -> str:
    grease = _GREASE[version % len(_GREASE)]
    if model.name == "Samsung Internet":
        return f'"Chromium";v="{version}", "Samsung Internet";v="29", {grease}'
    return f'"{model.brand}";v="{version}", "Chromium";v="{version}", {grease}'
