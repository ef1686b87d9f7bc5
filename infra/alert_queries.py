"""Reads of alerts: lists by filter and page, and one by its id; in SQLAlchemy Core."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, Select, Text, cast, select, tuple_, union_all
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.alert import Alert
from domain.alert_lists import AlertFilter, AlertPage, AlertPlace
from domain.ids import AlertId
from infra.postgres import queries
from infra.schema import alerts
from projections.alert_rows import ALERT_COLUMNS, AlertRow, alert_of

_JSON = {"facts", "answers", "client", "fact_texts"}
_ALERT = [
    cast(alerts.c[name], Text).label(name) if name in _JSON else alerts.c[name]
    for name in ALERT_COLUMNS
]
_PLACE = (alerts.c.severity_rank, alerts.c.last_at, alerts.c.alert_id)
_WORST_FIRST = tuple(column.desc() for column in _PLACE)


class PostgresAlertQueries:
    """``api.ports.AlertQueries`` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Read through this pool."""
        self._engine = engine

    async def page(self, wanted: AlertFilter, *, limit: int, after: AlertPlace | None) -> AlertPage:
        """See ``api.ports.AlertQueries.page``."""
        statement = (
            select(*_ALERT)
            .where(alerts.c.alert_id.in_(_first(wanted, limit + 1, after)))
            .order_by(*_WORST_FIRST)
            .limit(limit + 1)
        )
        async with queries(self._engine) as connection:
            rows = (await connection.execute(statement)).all()
        found = [_alert(row) for row in rows[:limit]]
        more = len(rows) > limit
        return AlertPage(found, _place_of(found[-1]) if more else None)

    async def alert(self, alert_id: AlertId) -> Alert | None:
        """See ``api.ports.AlertQueries.alert``."""
        return (await self.alerts([alert_id])).get(alert_id)

    async def alerts(self, alert_ids: Sequence[AlertId]) -> dict[AlertId, Alert]:
        """Those of these alerts that exist, by id."""
        async with queries(self._engine) as connection:
            statement = select(*_ALERT).where(alerts.c.alert_id.in_(alert_ids))
            rows = (await connection.execute(statement)).all()
        return {alert.alert_id: alert for alert in map(_alert, rows)}


def _first(wanted: AlertFilter, limit: int, after: AlertPlace | None) -> Select[tuple[str]]:
    """The ids of so many, of each status that is wanted.

    Of one status, an index has them in order. Of several together, all would have to be sorted.
    """
    each = [msgspec.structs.replace(wanted, statuses=[status]) for status in wanted.statuses]
    parts = []
    for part in each or [wanted]:
        chosen = select(alerts.c.alert_id).where(*_conditions(part))
        if after is not None:
            place = (after.severity_rank, after.last_at, after.alert_id)
            chosen = chosen.where(tuple_(*_PLACE) < place)
        parts.append(select(chosen.order_by(*_WORST_FIRST).limit(limit).subquery().c.alert_id))
    return select(union_all(*parts).subquery().c.alert_id)


def _conditions(wanted: AlertFilter) -> list[ColumnElement[bool]]:
    columns = alerts.c
    conditions: list[ColumnElement[bool]] = []
    if wanted.statuses:
        conditions.append(columns.status.in_([status.value for status in wanted.statuses]))
    if wanted.at_least is not None:
        conditions.append(columns.severity_rank >= wanted.at_least.rank)
    for column, value in (
        (columns.rule, wanted.rule),
        (columns.subject_id, wanted.user_id),
        (columns.family_id, wanted.family_id),
        (columns.assignee, wanted.assignee),
    ):
        if value is not None:
            conditions.append(column == value)
    if wanted.since is not None:
        conditions.append(columns.last_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(columns.last_at < wanted.until)
    return conditions


def _alert(row: Row[Any]) -> Alert:
    """Any: the columns have whatever types they have."""
    return alert_of([AlertRow(*row[: len(ALERT_COLUMNS)])])


def _place_of(alert: Alert) -> AlertPlace:
    return AlertPlace(alert.severity.rank, alert.last_at, alert.alert_id)
