"""An alert: its state, and ``evolve_alert``, which alone knows what an event does to it.

What analysts may do to one is in ``domain.alert_decisions``. The state is bounded, however often an
alert repeats: it holds the evidence of one occurrence, and one outcome for each kind of response.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import assert_never, cast

import msgspec
from msgspec.structs import replace

from domain.client import ClientContext
from domain.detection import Outcome, Response, Severity, Verdict
from domain.events.alerts import (
    AlertAcknowledged,
    AlertAnswered,
    AlertAssigned,
    AlertCommented,
    AlertEvent,
    AlertRaised,
    AlertReopened,
    AlertRepeated,
    AlertResolved,
    WeighedFact,
)
from domain.events.canonical import from_microseconds
from domain.events.envelope import NewEvent
from domain.events.personal import PersonalPart, Sealed, client_of
from domain.family import ImpossibleEventError
from domain.ids import SYSTEM_SUBJECT, AlertId, EventId, FamilyId, UserId


class AlertStatus(StrEnum):
    """Where an alert stands."""

    OPEN = "open"
    """Nobody has looked into it."""
    ACKNOWLEDGED = "acknowledged"
    """Somebody looks into it."""
    RESOLVED = "resolved"
    """It was judged."""
    RECORDED = "recorded"
    """Kept, and nobody is asked to look: the policy's response was ``record``."""


class Answer(msgspec.Struct, frozen=True):
    """What came of one kind of response.

    Attributes:
        response: Which.
        outcome: What became of it the last time.
        families: How many families it had an effect on, in all.
    """

    response: Response
    outcome: Outcome
    families: int = 0


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What an analyst triages: one subject, one rule, its evidence, its life.

    Attributes:
        alert_id: Names its stream.
        version: Version of the last event folded in.
        subject_id: The user it is about; ``SYSTEM_SUBJECT`` where it is about none.
        rule: The rule that spoke.
        rule_version: Its version then.
        policy_version: Version of the detection policy that was in force.
        severity: The worst of its occurrences.
        response: The strictest that the policy asked for.
        status: Where it stands.
        family_id: The session family, if it is about one.
        trigger_id: The event that the rule first spoke on.
        assignee: The member of staff whose it is.
        verdict: What it was judged to be; None unless it is resolved.
        count: How many occurrences it stands for.
        raised_at: When it was raised.
        resolved_at: When it was judged; None unless it is resolved.
        first_at: When the first occurrence was.
        last_at: When the last one was.
        score_m: Risk score in thousandths, where the rule has one.
        facts: What spoke for it, weighed.
        answers: What was done, one for each kind of response, in order of their first use.
        client: The client that was seen. Personal.
        fact_texts: What was seen and expected, by the facts' codes. Personal.
    """

    alert_id: AlertId
    version: int
    subject_id: UserId
    rule: str
    rule_version: int
    policy_version: int
    severity: Severity
    response: Response
    status: AlertStatus
    family_id: FamilyId | None = None
    trigger_id: EventId
    assignee: UserId | None = None
    verdict: Verdict | None = None
    count: int = 1
    raised_at: datetime
    resolved_at: datetime | None = None
    first_at: datetime
    last_at: datetime
    score_m: int | None = None
    facts: tuple[WeighedFact, ...] = ()
    answers: tuple[Answer, ...] = ()
    client: ClientContext | Sealed | None = None
    fact_texts: dict[str, str] | Sealed | None = None

    @property
    def user_id(self) -> UserId | None:
        """The user it is about, or None where it is about none."""
        return None if self.subject_id == SYSTEM_SUBJECT else self.subject_id


def evolve_alert(
    alert: Alert | None,
    alert_id: AlertId,
    event: AlertEvent,
    personal: PersonalPart,
    at: datetime,
) -> Alert:
    """What one event does to an alert.

    Args:
        alert: The state before; None before the first event.
        alert_id: The alert's id, from the stream's name.
        event: What happened.
        personal: Its personal part, open or sealed: carried along, never looked into.
        at: When it happened.

    Raises:
        ImpossibleEventError: The event cannot follow that state.
    """
    if isinstance(event, AlertRaised):
        return _raised(alert, alert_id, event, personal, at)
    if alert is None:
        msg = f"alert {alert_id} begins with {event.TYPE}"
        raise ImpossibleEventError(msg)
    alert = replace(alert, version=alert.version + 1)
    match event:
        case AlertRepeated():
            return _repeated(alert, event, personal)
        case AlertAnswered():
            return replace(alert, answers=_with_answer(alert.answers, event))
        case AlertAcknowledged():
            return replace(alert, status=AlertStatus.ACKNOWLEDGED)
        case AlertAssigned():
            return replace(alert, assignee=event.assignee)
        case AlertCommented():
            return alert
        case AlertResolved():
            return replace(
                alert, status=AlertStatus.RESOLVED, verdict=event.verdict, resolved_at=at
            )
        case AlertReopened():
            return _open_again(alert)
        case _:
            assert_never(event)


def fold_new_alert(
    alert: Alert | None, alert_id: AlertId, events: Iterable[NewEvent], at: datetime
) -> Alert:
    """Fold decided events into the state that they were decided on.

    Raises:
        ImpossibleEventError: They cannot follow it, or there are none and there is no state.
    """
    for new in events:
        alert = evolve_alert(alert, alert_id, cast("AlertEvent", new.event), new.personal, at)
    if alert is None:
        msg = f"alert {alert_id} has no events"
        raise ImpossibleEventError(msg)
    return alert


def _raised(
    alert: Alert | None,
    alert_id: AlertId,
    event: AlertRaised,
    personal: PersonalPart,
    at: datetime,
) -> Alert:
    if alert is not None:
        msg = f"alert {alert_id} is raised a second time"
        raise ImpossibleEventError(msg)
    happened_at = from_microseconds(event.happened_at_us)
    recorded = event.response is Response.RECORD
    return Alert(
        alert_id=alert_id,
        version=1,
        subject_id=event.user_id or SYSTEM_SUBJECT,
        rule=event.rule,
        rule_version=event.rule_version,
        policy_version=event.policy_version,
        severity=event.severity,
        response=event.response,
        status=AlertStatus.RECORDED if recorded else AlertStatus.OPEN,
        family_id=event.family_id,
        trigger_id=event.trigger_id,
        count=event.count,
        raised_at=at,
        first_at=happened_at,
        last_at=happened_at,
        score_m=event.score_m,
        facts=tuple(event.facts),
        client=client_of(personal),
        fact_texts=_fact_texts_of(personal),
    )


def _repeated(alert: Alert, event: AlertRepeated, personal: PersonalPart) -> Alert:
    happened_at = from_microseconds(event.happened_at_us)
    worse = event.severity.rank > alert.severity.rank
    stricter = event.response.rank > alert.response.rank
    after = replace(
        alert,
        severity=event.severity if worse else alert.severity,
        response=event.response if stricter else alert.response,
        count=alert.count + event.count,
        first_at=min(alert.first_at, happened_at),
        last_at=max(alert.last_at, happened_at),
    )
    if event.facts and event.severity.rank >= alert.severity.rank:
        after = replace(
            after,
            score_m=event.score_m,
            facts=tuple(event.facts),
            client=client_of(personal),
            fact_texts=_fact_texts_of(personal),
        )
    # A verdict speaks of what was known when it was given: something worse is yet to be judged.
    outgrown = alert.status is AlertStatus.RESOLVED and (worse or stricter)
    surfaced = alert.status is AlertStatus.RECORDED and after.response is not Response.RECORD
    return _open_again(after) if outgrown or surfaced else after


def _open_again(alert: Alert) -> Alert:
    return replace(alert, status=AlertStatus.OPEN, verdict=None, resolved_at=None)


def _with_answer(answers: tuple[Answer, ...], event: AlertAnswered) -> tuple[Answer, ...]:
    by_response = {answer.response: answer for answer in answers}
    before = by_response.get(event.response)
    families = event.families + (before.families if before is not None else 0)
    by_response[event.response] = Answer(event.response, event.outcome, families)
    return tuple(by_response.values())


def _fact_texts_of(part: PersonalPart) -> dict[str, str] | Sealed | None:
    """The texts in a personal part, or the unopened box that holds them."""
    return part if part is None or isinstance(part, Sealed) else part.facts
