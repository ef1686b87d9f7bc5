"""What the player answers requests with."""

from enum import StrEnum

import msgspec

from detector.findings import Finding
from detector.observations import Kind
from domain.events.families import (
    EndReason,
    RefreshRetried,
    RefreshTokenReused,
    RefreshTokenRotated,
    RefreshTokenUnrecognised,
)
from domain.events.registry import Event
from domain.family import Family


class Result(StrEnum):
    """What a request was answered."""

    OK = "ok"
    RETRY = "retry"
    REUSE = "reuse"
    REVOKED = "revoked"
    EXPIRED = "expired"
    STEP_UP = "step_up"
    REFUSED = "refused"


class Played(msgspec.Struct, frozen=True):
    """What became of one request.

    Attributes:
        result: The answer.
        findings: What the rules said of it.
    """

    result: Result
    findings: list[Finding]


def result_of(event: Event) -> tuple[Kind, Result]:
    """What a refresh came to, by the first event that it led to: for the rules, and the answer.

    Raises:
        TypeError: No refresh of a family that is live leads to it.
    """
    match event:
        case RefreshTokenRotated():
            return Kind.REFRESH, Result.OK
        case RefreshRetried():
            return Kind.LATE_RETRY if event.late else Kind.RETRY, Result.RETRY
        case RefreshTokenReused():
            return Kind.REUSE, Result.REUSE
        case RefreshTokenUnrecognised():
            return Kind.UNRECOGNISED, Result.REFUSED
        case _:
            msg = f"a refresh led to {event.TYPE}"
            raise TypeError(msg)


def after_the_end(family: Family) -> Result:
    """What a family that is over answers: why it is."""
    reason = family.sessions[0].end_reason or ""
    if reason.startswith("expired"):
        return Result.EXPIRED
    if reason == EndReason.LOGOUT.value:
        return Result.REFUSED
    return Result.REVOKED
