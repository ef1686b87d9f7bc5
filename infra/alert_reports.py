"""Alerts that people raise themselves."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.events.envelope import Cause, NewEvent
from domain.ids import AlertId, UserId
from infra.alert_store import append_of, put_alerts
from infra.event_store import database_clock
from infra.postgres import transaction
from infra.sealing import DataKeys
from infra.subject_keys import hold_subject_keys


class PostgresAlertReports:
    """``api.console.ports.AlertReports`` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine, data_keys: DataKeys) -> None:
        """Work through this pool, sealing with these data keys."""
        self._engine = engine
        self._data_keys = data_keys

    async def raise_alert(
        self, alert_id: AlertId, events: Sequence[NewEvent], subject: UserId, cause: Cause
    ) -> bool:
        """See ``AlertReports.raise_alert``."""
        async with transaction(self._engine) as connection:
            wrapped = (await hold_subject_keys(connection, [subject])).get(subject)
            data_key = None if wrapped is None else self._data_keys.unwrap(wrapped, subject)
            at = await database_clock(connection)
            append = append_of(None, alert_id, [(new, cause) for new in events], data_key, at)
            return await put_alerts(connection, [append]) == {alert_id}
