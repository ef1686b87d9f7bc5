"""Events of an alert's stream: what a rule found, what was done, and what analysts made of it."""

from typing import ClassVar

import msgspec

from domain.detection import Outcome, Response, Severity, Verdict
from domain.events.registry import Event, register
from domain.ids import EventId, FamilyId, UserId


class WeighedFact(msgspec.Struct, frozen=True):
    """The part of a ``Fact`` that names nobody."""

    code: str
    weight: int


@register
class AlertRaised(Event, frozen=True, kw_only=True):
    """A rule found something.

    The subject of the envelope is the user it is about; the service's own (``SYSTEM_SUBJECT``)
    where it is about no user, so that its personal part is sealed under that key.

    Personal: ``client`` that was seen, and ``facts``, what was seen and expected, by code.

    Attributes:
        user_id: The user it is about; None where it is about none.
        rule: Name of the rule.
        rule_version: Its version.
        policy_version: Version of the detection policy in force (of its stream's last event).
        severity: How bad.
        response: What the policy says is to be done.
        family_id: The session family, if it is about one.
        trigger_id: The event that the rule spoke on.
        happened_at_us: When that was, in microseconds since 1970 UTC.
        score_m: The risk score in thousandths, where the rule has one.
        facts: What spoke for it.
        count: How many occurrences it stands for.
    """

    TYPE: ClassVar[str] = "AlertRaised"

    user_id: UserId | None = None
    rule: str
    rule_version: int
    policy_version: int
    severity: Severity
    response: Response
    family_id: FamilyId | None = None
    trigger_id: EventId
    happened_at_us: int
    score_m: int | None = None
    facts: list[WeighedFact] = msgspec.field(default_factory=list)
    count: int = 1


@register
class AlertRepeated(Event, frozen=True, kw_only=True):
    """The same rule found the same again, of the same subject, while the alert was young.

    Evidence that is given, and is not of a lesser severity, takes the place of the alert's.

    Personal, beside ``facts``: as in ``AlertRaised``.

    Attributes:
        trigger_id: The event that the rule spoke on.
        happened_at_us: When that was, in microseconds since 1970 UTC.
        severity: How bad this time; the alert takes the worst.
        response: What is to be done; the alert takes the strictest.
        score_m: The risk score in thousandths, where the rule has one.
        facts: What spoke for it; empty where nothing new did.
        count: How many occurrences this stands for.
    """

    TYPE: ClassVar[str] = "AlertRepeated"

    trigger_id: EventId
    happened_at_us: int
    severity: Severity
    response: Response
    score_m: int | None = None
    facts: list[WeighedFact] = msgspec.field(default_factory=list)
    count: int = 1


@register
class AlertAnswered(Event, frozen=True, kw_only=True):
    """The response was carried out, or why it was not.

    Attributes:
        response: What was done.
        outcome: What became of it.
        families: How many families it had an effect on.
    """

    TYPE: ClassVar[str] = "AlertAnswered"

    response: Response
    outcome: Outcome
    families: int = 0


@register
class AlertAcknowledged(Event, frozen=True, kw_only=True):
    """Somebody looks into it: the actor of the envelope."""

    TYPE: ClassVar[str] = "AlertAcknowledged"


@register
class AlertAssigned(Event, frozen=True, kw_only=True):
    """It is somebody's to look into.

    Attributes:
        assignee: A member of staff; None takes it from whoever had it.
    """

    TYPE: ClassVar[str] = "AlertAssigned"

    assignee: UserId | None


@register
class AlertCommented(Event, frozen=True, kw_only=True):
    """Somebody wrote something about it. Personal: ``comment``."""

    TYPE: ClassVar[str] = "AlertCommented"


@register
class AlertResolved(Event, frozen=True, kw_only=True):
    """It was judged; the detector learns from the verdict. Personal: ``comment``, where given.

    Attributes:
        verdict: What it was.
        family_id: The session family that the alert is about, if it is about one.
    """

    TYPE: ClassVar[str] = "AlertResolved"

    verdict: Verdict
    family_id: FamilyId | None = None


@register
class AlertReopened(Event, frozen=True, kw_only=True):
    """The verdict is taken back."""

    TYPE: ClassVar[str] = "AlertReopened"


AlertEvent = (
    AlertRaised
    | AlertRepeated
    | AlertAnswered
    | AlertAcknowledged
    | AlertAssigned
    | AlertCommented
    | AlertResolved
    | AlertReopened
)
