"""How a device differs from another: what is told by both, and only that, can tell them apart."""

from detector.findings import Fact
from domain.evidence import Device

_FIELDS = 4
_UNTOLD = frozenset({"?", "other"})
_FURTHER = 10
"""What each further difference adds: they are rarely independent of the first."""
_DESKTOP_SITES = frozenset(
    {
        ("Android/mobile", "Linux/desktop"),
        ("Android/mobile", "Android/tablet"),
        ("Android/mobile", "Android/desktop"),
        ("Android/tablet", "Linux/desktop"),
        ("iOS/mobile", "macOS/desktop"),
        ("iOS/tablet", "macOS/desktop"),
        ("iOS/mobile", "iOS/tablet"),
    }
)
"""How telephones and tablets call themselves when asked for the pages that computers get."""

OTHER = 60
"""The weight of a difference that no client has with itself."""
OTHER_COOKIE = 50
OTHER_MODEL = 40
UNTOLD = 40
DESKTOP_SITE = 35
HARD = 40
"""From this weight on, a difference makes it another device."""


def differences(
    signature: str, model: str | None, device: Device, *, hinted: bool
) -> tuple[Fact, ...]:
    """What tells a device from the one that was there before, heaviest first.

    A version is no part of it, so an update changes nothing. What one of the two does not tell
    is no difference.

    Args:
        signature: Of the device before.
        model: Its model, where it was told.
        device: The device now.
        hinted: Whether client hints were sent before.
    """
    now = device.signature
    if now == signature:
        return _other_model(model, device)
    before, after = signature.split("/"), now.split("/")
    if len(before) != _FIELDS or len(after) != _FIELDS:
        return (Fact("other_device", OTHER, now, signature),)  # a slash in a made-up name
    if device.platform is None and device.browser is None:
        return (Fact("user_agent_lost", UNTOLD, now, signature),)
    codes = _differing(before, after, hints_differ=hinted is not device.hinted)
    if not codes:
        return _other_model(model, device)
    heaviest, *further = sorted(codes, key=lambda each: -each[1])
    return (
        Fact(*heaviest, now, signature),
        *(Fact(code, min(weight, _FURTHER)) for code, weight in further),
    )


def _other_model(model: str | None, device: Device) -> tuple[Fact, ...]:
    if model is None or device.model is None or model == device.model:
        return ()
    return (Fact("other_model", OTHER_MODEL, device.model, model),)


def _differing(before: list[str], after: list[str], *, hints_differ: bool) -> list[tuple[str, int]]:
    same = [
        one == other or not _UNTOLD.isdisjoint((one, other))
        for one, other in zip(before, after, strict=True)
    ]
    platform, form, browser, engine = same
    found: list[tuple[str, int]] = []
    if not platform or not form:
        is_desktop_site = browser and _asks_for_desktop_site(before, after)
        if is_desktop_site:
            found.append(("desktop_site", DESKTOP_SITE))
        else:
            found.append(("other_form" if platform else "other_platform", OTHER))
    if not browser and not (hints_differ and engine):
        # Without hints Brave, for one, calls itself Chrome.
        found.append(("other_browser", OTHER))
    if not engine and browser:
        found.append(("other_engine", OTHER_MODEL))
    return found


def _asks_for_desktop_site(before: list[str], after: list[str]) -> bool:
    one, other = "/".join(before[:2]), "/".join(after[:2])
    return (one, other) in _DESKTOP_SITES or (other, one) in _DESKTOP_SITES
