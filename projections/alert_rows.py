"""How an alert lies in the ``alerts`` table: one row each."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from domain.alert import Alert, AlertStatus, Answer
from domain.client import ClientContext
from domain.detection import Response, Severity, Verdict
from domain.events.alerts import WeighedFact
from domain.events.personal import Sealed
from domain.ids import AlertId, EventId, FamilyId, UserId
from projections.session_rows import StillSealedError

Json = bytes | msgspec.Raw
"""JSON text: as the database sends it, or as it is sent to the database."""

_facts_decoder = msgspec.json.Decoder(tuple[WeighedFact, ...])
_answers_decoder = msgspec.json.Decoder(tuple[Answer, ...])
_client_decoder = msgspec.json.Decoder(ClientContext)
_texts_decoder = msgspec.json.Decoder(dict[str, str])


class AlertRow(msgspec.Struct, frozen=True):
    """One row of ``alerts``; the fields are its columns, in the order they are selected.

    ``severity_rank`` is the severity again, to sort and to compare by. ``client`` and
    ``fact_texts`` are in clear, and null once the subject is erased.
    """

    alert_id: AlertId
    version: int
    subject_id: UserId
    rule: str
    rule_version: int
    policy_version: int
    severity: str
    severity_rank: int
    response: str
    status: str
    family_id: FamilyId | None
    trigger_id: EventId
    assignee: UserId | None
    verdict: str | None
    count: int
    raised_at: datetime
    resolved_at: datetime | None
    first_at: datetime
    last_at: datetime
    score_m: int | None
    facts: Json
    answers: Json
    client: Json | None
    fact_texts: Json | None


ALERT_COLUMNS = AlertRow.__struct_fields__


def alert_row_of(alert: Alert) -> AlertRow:
    """The row that stands for an alert.

    Raises:
        StillSealedError: Its personal data was not opened.
    """
    client, texts = alert.client, alert.fact_texts
    if isinstance(client, Sealed) or isinstance(texts, Sealed):
        msg = f"alert {alert.alert_id} still holds sealed personal data"
        raise StillSealedError(msg)
    return AlertRow(
        alert.alert_id,
        alert.version,
        alert.subject_id,
        alert.rule,
        alert.rule_version,
        alert.policy_version,
        alert.severity.value,
        alert.severity.rank,
        alert.response.value,
        alert.status.value,
        alert.family_id,
        alert.trigger_id,
        alert.assignee,
        None if alert.verdict is None else alert.verdict.value,
        alert.count,
        alert.raised_at,
        alert.resolved_at,
        alert.first_at,
        alert.last_at,
        alert.score_m,
        _json(alert.facts),
        _json(alert.answers),
        None if client is None else _json(client),
        None if texts is None else _json(texts),
    )


def alert_of(rows: Sequence[AlertRow]) -> Alert:
    """The alert that its row stands for.

    Args:
        rows: The one row of an alert.
    """
    (row,) = rows
    return Alert(
        alert_id=row.alert_id,
        version=row.version,
        subject_id=row.subject_id,
        rule=row.rule,
        rule_version=row.rule_version,
        policy_version=row.policy_version,
        severity=Severity(row.severity),
        response=Response(row.response),
        status=AlertStatus(row.status),
        family_id=row.family_id,
        trigger_id=row.trigger_id,
        assignee=row.assignee,
        verdict=None if row.verdict is None else Verdict(row.verdict),
        count=row.count,
        raised_at=row.raised_at,
        resolved_at=row.resolved_at,
        first_at=row.first_at,
        last_at=row.last_at,
        score_m=row.score_m,
        facts=_facts_decoder.decode(row.facts),
        answers=_answers_decoder.decode(row.answers),
        client=None if row.client is None else _client_decoder.decode(row.client),
        fact_texts=None if row.fact_texts is None else _texts_decoder.decode(row.fact_texts),
    )


def _json(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
