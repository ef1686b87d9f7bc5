"""Alerts for tests: what a rule would say, and alerts raised in a database as the detector does."""

from datetime import UTC, datetime, timedelta
from typing import cast

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.alert import Alert
from domain.client import ClientContext
from domain.detection import Response, Severity
from domain.events.alerts import AlertRaised, AlertRepeated, WeighedFact
from domain.events.canonical import microseconds
from domain.events.envelope import Actor, ActorKind, Cause, NewEvent
from domain.events.personal import Personal
from domain.ids import SYSTEM_SUBJECT, AlertId, CorrelationId, EventId, FamilyId, UserId
from infra.alert_store import append_of, load_alerts, put_alerts
from infra.event_store import database_clock
from infra.ids import new_uuid
from infra.postgres import transaction
from infra.sealing import DataKeys
from infra.subject_keys import subject_keys, system_key

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_001, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ALERT_ID = AlertId("0195513a-0000-7000-8000-00000000a1e7")
TRIGGER_ID = EventId("0195513a-0000-7000-8000-0000000e7e00")
RULE = "device-and-network-change"
THIEF = ClientContext(ip="198.51.100.66", user_agent="curl/8.5.0")
FACTS = [WeighedFact("new_asn", 60), WeighedFact("new_device", 40)]
TEXTS = {"new_asn": "AS64500 instead of AS64496", "new_device": "curl instead of Firefox"}


def raised(
    *,
    user_id: UserId | None = None,
    family_id: FamilyId | None = None,
    rule: str = RULE,
    severity: Severity = Severity.HIGH,
    response: Response = Response.ALERT,
    at: datetime = NOW,
    count: int = 1,
) -> NewEvent:
    """An ``AlertRaised`` with its evidence."""
    event = AlertRaised(
        user_id=user_id,
        rule=rule,
        rule_version=1,
        policy_version=0,
        severity=severity,
        response=response,
        family_id=family_id,
        trigger_id=TRIGGER_ID,
        happened_at_us=microseconds(at),
        score_m=1_234,
        facts=FACTS,
        count=count,
    )
    return NewEvent(event, Personal(client=THIEF, facts=TEXTS))


def repeated(
    *,
    severity: Severity = Severity.HIGH,
    response: Response = Response.ALERT,
    at: datetime = NOW + MINUTE,
    count: int = 1,
    facts: dict[str, str] | None = None,
) -> NewEvent:
    """An ``AlertRepeated``; with evidence where ``facts`` gives it."""
    event = AlertRepeated(
        trigger_id=TRIGGER_ID,
        happened_at_us=microseconds(at),
        severity=severity,
        response=response,
        facts=[WeighedFact(code, 50) for code in facts or {}],
        count=count,
    )
    return NewEvent(event, None if facts is None else Personal(client=THIEF, facts=facts))


def by_rule(rule: str = RULE) -> Cause:
    """The cause of what a rule does."""
    return Cause(Actor(ActorKind.RULE, rule), CorrelationId(new_uuid()))


def by_staff(user_id: str) -> Cause:
    """The cause of what a member of staff does."""
    return Cause(Actor(ActorKind.STAFF, user_id), CorrelationId(new_uuid()))


async def put(
    engine: AsyncEngine, data_keys: DataKeys, alert_id: AlertId, *events: NewEvent
) -> Alert:
    """Append to an alert as the detector's worker does."""
    async with transaction(engine) as connection:
        loaded = (await load_alerts(connection, [alert_id])).get(alert_id)
        before = loaded.alert if loaded is not None else None
        subject = before.subject_id if before is not None else _subject_of(events[0])
        if subject == SYSTEM_SUBJECT:
            data_key = await system_key(connection, data_keys)
        else:
            data_key = (await subject_keys(connection, [subject], data_keys))[subject]
        at = await database_clock(connection)
        append = append_of(before, alert_id, [(new, by_rule()) for new in events], data_key, at)
        assert await put_alerts(connection, [append]) == {alert_id}
    return append.after


def _subject_of(first: NewEvent) -> UserId:
    return cast("AlertRaised", first.event).user_id or SYSTEM_SUBJECT


async def raise_alert(
    engine: AsyncEngine, data_keys: DataKeys, first: NewEvent, alert_id: AlertId | None = None
) -> Alert:
    """A new alert in the database."""
    return await put(engine, data_keys, alert_id or AlertId(new_uuid()), first)
