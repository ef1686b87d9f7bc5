"""What a rule says about one observation."""

from enum import StrEnum

import msgspec

from domain.detection import Fact, Response, Severity
from domain.ids import EventId, FamilyId, UserId


class Signal(msgspec.Struct, frozen=True):
    """What a rule's function returns when it has something to say.

    Attributes:
        facts: What speaks for it, heaviest first.
        severity: Instead of the rule's own, where this case is milder or worse.
        response: Instead of the rule's own.
        score: A risk, where the rule computes one; its scale is the rule's.
        group: What repeats are grouped by; None is the rule's subject (family, else user).
        users: Whom a rule about a crowd found, the latest last.
    """

    facts: tuple[Fact, ...]
    severity: Severity | None = None
    response: Response | None = None
    score: float | None = None
    group: str | None = None
    users: tuple[UserId, ...] = ()


class Subject(StrEnum):
    """What a finding is about, and what alerts are grouped by."""

    FAMILY = "family"
    USER = "user"
    CROWD = "crowd"
    """Many users, by a source, a device or all of them together."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A signal, with the policy applied.

    Attributes:
        rule: Name of the rule.
        rule_version: Its version.
        severity: How bad.
        response: What is to be done.
        facts: What speaks for it.
        score: A risk, where there is one.
        second: When, in seconds since 1970.
        event_id: The event that it is about.
        user_id: Whom it is about; None for a crowd.
        family_id: Which family, if one.
        group: Repeats share it (with the rule).
        count: How many occurrences it stands for.
    """

    rule: str
    rule_version: int
    severity: Severity
    response: Response
    facts: tuple[Fact, ...]
    score: float | None
    second: float
    event_id: EventId
    user_id: UserId | None
    family_id: FamilyId | None
    group: str
    count: int = 1


__all__ = ["Fact", "Finding", "Response", "Severity", "Signal", "Subject"]
