"""Appending to alerts: events and the row that they lead to in one statement, guarded by version.

The detector's worker does it in bulk, inside a transaction of its own (``load_alerts``,
``put_alerts``); analysts one at a time (``infra.alert_commands``).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from msgspec.structs import asdict, replace

from domain.alert import Alert, fold_new_alert
from domain.events.envelope import Cause, NewEvent
from domain.ids import AlertId, UserId, alert_stream
from infra.event_rows import (
    EVENT_COLUMNS,
    EVENT_RECORD,
    EVENT_VALUES,
    EventRow,
    document,
    event_document,
    event_row,
    insert,
)
from infra.postgres import Connection
from infra.sealing import DataKey
from infra.subject_keys import hold_subject_keys
from projections.alert_rows import ALERT_COLUMNS, AlertRow, alert_of, alert_row_of


class AlertAppend(msgspec.Struct, frozen=True, kw_only=True):
    """Events for one alert, with the state that they lead to; made by ``append_of``.

    Attributes:
        before: The state they were decided on, or None for a new alert.
        after: The state with them folded in.
        events: In order; each with its cause.
        data_key: The subject's data key; None where the subject is erased.
        at: When they happened.
    """

    before: Alert | None
    after: Alert
    events: Sequence[tuple[NewEvent, Cause]]
    data_key: DataKey | None
    at: datetime


class LoadedAlert(msgspec.Struct, frozen=True):
    """An alert as read for a command, and its subject's data key; None once they are erased."""

    alert: Alert
    wrapped_key: bytes | None


_COLUMNS = ", ".join(ALERT_COLUMNS)
_TYPES = {
    "alert_id": "uuid", "version": "int", "subject_id": "uuid", "rule_version": "int",
    "policy_version": "int", "severity_rank": "smallint", "family_id": "uuid",
    "trigger_id": "uuid", "assignee": "uuid", "count": "bigint", "raised_at": "timestamptz",
    "resolved_at": "timestamptz", "first_at": "timestamptz", "last_at": "timestamptz",
    "score_m": "bigint", "facts": "jsonb", "answers": "jsonb", "client": "jsonb",
    "fact_texts": "jsonb",
}  # fmt: skip
_RECORD = ", ".join(f"{column} {_TYPES.get(column, 'text')}" for column in ALERT_COLUMNS)
_CHANGING = [column for column in ALERT_COLUMNS if column != "alert_id"]

_SUBJECTS = "SELECT DISTINCT subject_id FROM alerts WHERE alert_id = ANY(%s::uuid[])"
_LOAD = f"""
SELECT {_COLUMNS} FROM alerts WHERE alert_id = ANY(%s::uuid[])
 ORDER BY alert_id FOR NO KEY UPDATE
"""  # noqa: S608 (column names are ours)

# In the order of ids, so that two writers of several alerts never wait for each other in a circle.
_PUT = f"""
WITH change AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset(%b) AS c(expected_version int, {_RECORD}) ORDER BY alert_id
), raised AS (
  INSERT INTO alerts ({_COLUMNS})
  SELECT {_COLUMNS} FROM change WHERE expected_version = 0 ORDER BY alert_id
  ON CONFLICT (alert_id) DO NOTHING
  RETURNING alert_id
), changed AS (
  UPDATE alerts a SET {", ".join(f"{column} = c.{column}" for column in _CHANGING)}
    FROM change c
   WHERE a.alert_id = c.alert_id AND c.expected_version > 0 AND a.version = c.expected_version
  RETURNING a.alert_id
), accepted AS MATERIALIZED (
  SELECT alert_id FROM raised UNION ALL SELECT alert_id FROM changed
), appended AS (
  INSERT INTO events ({EVENT_COLUMNS})
  SELECT {EVENT_VALUES}
    FROM jsonb_to_recordset(%b) AS e({EVENT_RECORD})
    JOIN accepted a ON e.stream = 'alert-' || a.alert_id
   ORDER BY stream, version
)
SELECT alert_id FROM accepted
"""  # noqa: S608 (column names are ours)


def append_of(
    before: Alert | None,
    alert_id: AlertId,
    events: Sequence[tuple[NewEvent, Cause]],
    data_key: DataKey | None,
    at: datetime,
) -> AlertAppend:
    """What is to be appended to an alert, and the state that it leads to.

    Of a subject who was erased nothing personal is kept: it is left out of the events.

    Args:
        before: The alert's state; None for a new one.
        alert_id: Its id.
        events: In order; each with its cause.
        data_key: The subject's data key (``infra.subject_keys``); None where they are erased.
        at: When they happen.

    Raises:
        ImpossibleEventError: They cannot follow that state.
    """
    if data_key is None:
        events = [(replace(new, personal=None), cause) for new, cause in events]
    after = fold_new_alert(before, alert_id, [new for new, _ in events], at)
    return AlertAppend(before=before, after=after, events=events, data_key=data_key, at=at)


async def load_alerts(
    connection: Connection, alert_ids: Iterable[AlertId]
) -> dict[AlertId, LoadedAlert]:
    """Read alerts for commands, and hold their rows until the transaction ends.

    So what is put within the same transaction meets no other writer. Their subjects' data keys are
    held too, and before: no erasure comes between the read and the write.

    Returns:
        Those that exist, by id.
    """
    wanted = list(alert_ids)
    cursor = await connection.execute(_SUBJECTS, (wanted,), binary=True)
    subjects = [UserId(record[0]) for record in await cursor.fetchall()]
    keys = await hold_subject_keys(connection, subjects) if subjects else {}
    cursor = await connection.execute(_LOAD, (wanted,), binary=True)
    loaded = [alert_of([AlertRow(*record)]) for record in await cursor.fetchall()]
    return {alert.alert_id: LoadedAlert(alert, keys.get(alert.subject_id)) for alert in loaded}


async def put_alerts(connection: Connection, appends: Sequence[AlertAppend]) -> set[AlertId]:
    """Append to alerts, each guarded by its own version; one append an alert.

    Returns:
        The alerts that were appended to; for the rest another writer was faster. Of a new alert
        that is missing here, the detector has raised it before: it is the same alert.

    Raises:
        StreamConflictError: An alert has events and no row: rebuild the projections.
    """
    if not appends:
        return set()
    changes = []
    for append in appends:
        change = asdict(alert_row_of(append.after))
        change["expected_version"] = 0 if append.before is None else append.before.version
        changes.append(change)
    events = [row for append in appends for row in _event_rows(append)]
    cursor = await insert(connection, _PUT, document(changes), event_document(events))
    return {record[0] for record in await cursor.fetchall()}


def _event_rows(append: AlertAppend) -> list[EventRow]:
    after = append.after
    stream = alert_stream(after.alert_id)
    first = after.version - len(append.events) + 1
    return [
        event_row(stream, version, new, cause, append.at, after.subject_id, append.data_key)
        for version, (new, cause) in enumerate(append.events, first)
    ]
