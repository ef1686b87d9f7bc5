"""Events of the detection policy's stream: which rules speak, how loudly, and on whom not."""

from enum import StrEnum
from typing import ClassVar

import msgspec

from domain.detection import Response, Severity
from domain.events.registry import Event, register
from domain.ids import UserId


class AllowedKind(StrEnum):
    """What an allow-list entry is about."""

    NETWORK = "network"
    ASN = "asn"
    USER = "user"


@register
class RuleConfigured(Event, frozen=True, kw_only=True):
    """A rule's settings from now on, all of them: what is None is the rule's own default.

    Attributes:
        rule: Name of the rule.
        enabled: Whether it speaks at all.
        severity: Instead of its own.
        response: Instead of its own.
        parameters: Thresholds instead of its own, by name.
    """

    TYPE: ClassVar[str] = "RuleConfigured"

    rule: str
    enabled: bool = True
    severity: Severity | None = None
    response: Response | None = None
    parameters: dict[str, int] = msgspec.field(default_factory=dict)


@register
class AllowListed(Event, frozen=True, kw_only=True):
    """What comes from here, or concerns this user, raises no alert until then.

    Personal (under the user's data key where it is about one, else under the service's own):
    ``networks``, one, where it is about a network; ``comment``, the reason.

    Attributes:
        entry_id: Names the entry.
        kind: What it is about.
        asn: The autonomous system, where it is about one.
        user_id: The user, where it is about one.
        rule: The one rule that it holds for; None is every rule.
        owner: The member of staff who answers for it.
        until_us: When it ends, in microseconds since 1970 UTC.
    """

    TYPE: ClassVar[str] = "AllowListed"

    entry_id: str
    kind: AllowedKind
    asn: int | None = None
    user_id: UserId | None = None
    rule: str | None = None
    owner: UserId
    until_us: int


@register
class AllowListEntryRemoved(Event, frozen=True, kw_only=True):
    """An allow-list entry ended before its time."""

    TYPE: ClassVar[str] = "AllowListEntryRemoved"

    entry_id: str


@register
class RuleHeldBack(Event, frozen=True, kw_only=True):
    """A rule would have ended too many families: for a while it alerts and does not act.

    Attributes:
        rule: Name of the rule.
        families: How many it ended within the last hour.
        active: How many families were active.
        until_us: When it may act again, in microseconds since 1970 UTC.
    """

    TYPE: ClassVar[str] = "RuleHeldBack"

    rule: str
    families: int
    active: int
    until_us: int


DetectionPolicyEvent = RuleConfigured | AllowListed | AllowListEntryRemoved | RuleHeldBack
