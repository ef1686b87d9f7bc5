"""The lines of a request file: what they are made of, and how they are written."""

from datetime import UTC, datetime
from enum import StrEnum

import msgspec

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


class Do(StrEnum):
    """What a request asks for."""

    LOGIN = "login"
    LOGIN_FAILED = "login_failed"
    REFRESH = "refresh"
    LOGOUT = "logout"
    VERDICT = "verdict"


class Line(msgspec.Struct, frozen=True, gc=False):
    """One request.

    Attributes:
        at: Milliseconds since 1970 UTC.
        do: What it asks for.
        label: The truth: ``honest``, ``honest:<trap>`` or ``attack:<kind>[:<variant>]#<number>``.
        client: Address, user agent, hints, device and place, as JSON members without braces.
        user: Whose account; empty where the family says it.
        family: Which family; empty for a failed sign-in.
        generation: Of the token that a refresh presents.
        verdict: What an analyst says.
    """

    at: int
    do: Do
    label: str
    client: str = ""
    user: str = ""
    family: str = ""
    generation: int = 0
    verdict: str = ""


class LineWriter:
    """Writes lines as JSON. Lines come in time order, so it formats each second but once."""

    def __init__(self) -> None:
        """Begin a file."""
        self._second = -1
        self._text = ""

    def write(self, line: Line) -> bytes:
        """The line as JSON, without a line break."""
        second, millisecond = divmod(line.at, 1000)
        if second != self._second:
            self._second = second
            self._text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        head = f'{{"at":"{self._text}.{millisecond:03d}Z","do":"{line.do.value}"'
        label = line.label
        match line.do:
            case Do.REFRESH:
                text = (
                    f'{head},"family":"{line.family}","generation":{line.generation},'
                    f'{line.client},"label":"{label}"}}'
                )
            case Do.LOGIN:
                text = (
                    f'{head},"user":"{line.user}","family":"{line.family}",'
                    f'{line.client},"label":"{label}"}}'
                )
            case Do.LOGIN_FAILED:
                text = f'{head},"user":"{line.user}",{line.client},"label":"{label}"}}'
            case Do.LOGOUT:
                text = f'{head},"family":"{line.family}",{line.client},"label":"{label}"}}'
            case _:
                text = (
                    f'{head},"family":"{line.family}","verdict":"{line.verdict}",'
                    f'"label":"{label}"}}'
                )
        return text.encode()
