"""What analysts do to alerts, one command a transaction."""

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.alert import Alert
from domain.alert_decisions import AlertCommand, decide_alert
from domain.events.envelope import Cause
from domain.ids import AlertId
from domain.ports import ConcurrencyError
from domain.refusals import Refusal
from infra.alert_store import append_of, load_alerts, put_alerts
from infra.event_store import database_clock
from infra.postgres import transaction
from infra.sealing import DataKeys


class PostgresAlertCommands:
    """``api.ports.AlertCommands`` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine, data_keys: DataKeys) -> None:
        """Work through this pool, sealing with these data keys."""
        self._engine = engine
        self._data_keys = data_keys

    async def command(
        self, alert_id: AlertId, command: AlertCommand, cause: Cause
    ) -> Alert | Refusal:
        """See ``api.ports.AlertCommands.command``."""
        async with transaction(self._engine) as connection:
            loaded = (await load_alerts(connection, [alert_id])).get(alert_id)
            decision = decide_alert(loaded.alert if loaded is not None else None, command)
            if decision.refusal is not None or loaded is None:
                return decision.refusal or Refusal.UNKNOWN_ALERT
            alert, data_key = loaded.alert, None
            if loaded.wrapped_key is not None:
                data_key = self._data_keys.unwrap(loaded.wrapped_key, alert.subject_id)
            elif any(new.personal is not None for new in decision.events):
                return Refusal.SUBJECT_ERASED
            at = await database_clock(connection)
            events = [(new, cause) for new in decision.events]
            append = append_of(alert, alert_id, events, data_key, at)
            if await put_alerts(connection, [append]) != {alert_id}:
                msg = f"alert {alert_id} moved on although its row was held"
                raise ConcurrencyError(msg)
        return append.after
