"""Alerts and histories as answers."""

from collections.abc import Mapping
from typing import Any

from api.alert_schemas import (
    AlertModel,
    AnswerModel,
    FactModel,
    HistoryModel,
    Timeline,
)
from api.ports import DeviceNames
from api.schemas import Device
from domain.alert import Alert
from domain.client import ClientContext, network_of
from domain.histories import History, HistoryEntry

# What is not here is not shown: hashes, salts and key ids are nobody's business, and of an event
# type that a newer build wrote nobody knows what its fields hold.
_SHOWN = frozenset({
    "session", "session_id", "client_id", "auth_methods", "delivery", "persistent", "generation",
    "presented_generation", "current_generation", "late", "reason", "kind", "rule", "rule_version",
    "policy_version", "severity", "response", "trigger_id", "happened_at_us", "score_m", "facts",
    "count", "outcome", "families", "assignee", "verdict",
})  # fmt: skip


def alert_fields(alert: Alert, devices: DeviceNames) -> dict[str, Any]:
    """The fields of ``AlertModel``. Any: each has its own type."""
    texts = alert.fact_texts if isinstance(alert.fact_texts, dict) else {}
    return {
        "id": alert.alert_id,
        "rule": alert.rule,
        "rule_version": alert.rule_version,
        "policy_version": alert.policy_version,
        "severity": alert.severity,
        "response": alert.response,
        "status": alert.status,
        "user_id": alert.user_id,
        "family_id": alert.family_id,
        "assignee": alert.assignee,
        "verdict": alert.verdict,
        "count": alert.count,
        "raised_at": alert.raised_at,
        "resolved_at": alert.resolved_at,
        "first_at": alert.first_at,
        "last_at": alert.last_at,
        "score": None if alert.score_m is None else alert.score_m / 1000,
        "facts": [
            FactModel(code=fact.code, weight=fact.weight, text=texts.get(fact.code))
            for fact in alert.facts
        ],
        "answers": [
            AnswerModel(response=each.response, outcome=each.outcome, families=each.families)
            for each in alert.answers
        ],
        "client": (
            _device(alert.client, devices) if isinstance(alert.client, ClientContext) else None
        ),
    }


def alert_model(alert: Alert, devices: DeviceNames) -> AlertModel:
    """An alert as lists show it."""
    return AlertModel(**alert_fields(alert, devices))


def timeline(history: History, devices: DeviceNames) -> Timeline:
    """A history as it is shown."""
    return Timeline(
        events=[_entry(entry, devices) for entry in history.entries], earlier=history.earlier
    )


def _entry(entry: HistoryEntry, devices: DeviceNames) -> HistoryModel:
    personal = entry.personal
    return HistoryModel(
        version=entry.version,
        event_id=entry.event_id,
        type=entry.type,
        at=entry.at,
        actor=entry.actor,
        correlation_id=entry.correlation_id,
        details=_details(entry),
        comment=personal.comment,
        client=None if personal.client is None else _device(personal.client, devices),
        device_name=personal.device_name,
    )


def _details(entry: HistoryEntry) -> dict[str, object]:
    shown = {name: value for name, value in entry.data.items() if name in _SHOWN}
    texts = entry.personal.facts
    if texts and isinstance(shown.get("facts"), list):
        shown["facts"] = [_with_text(fact, texts) for fact in entry.data["facts"]]  # type: ignore[attr-defined]  # a list
    return shown


def _with_text(fact: Any, texts: Mapping[str, str]) -> dict[str, object]:  # noqa: ANN401 (JSON)
    return {**fact, "text": texts.get(fact["code"])}


def _device(client: ClientContext, devices: DeviceNames) -> Device:
    return Device(
        name=None,
        description=devices.describe(client.user_agent, client.hints),
        user_agent=client.user_agent,
        ip=client.ip,
        network=None if client.ip is None else network_of(client.ip),
    )
