"""How a session family lies in the ``sessions`` table: one row a session.

The family's own facts are repeated in each of its rows, so that a refresh reads and writes one row.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from domain.client import ClientContext
from domain.events.families import TokenDelivery
from domain.events.personal import Sealed
from domain.family import Family, Session
from domain.ids import FamilyId, SessionId, UserId

_client_decoder = msgspec.json.Decoder(ClientContext)


class SessionRow(msgspec.Struct, frozen=True):
    """One row of ``sessions``; the fields are its columns, in the order they are selected.

    ``ordinal`` is the session's place in its family. ``client`` is the JSON text of the client
    context, in clear; it and ``device_name`` are null once the user is erased.
    """

    session_id: SessionId
    family_id: FamilyId
    ordinal: int
    user_id: UserId
    family_version: int
    client_id: str
    auth_methods: list[str]
    signed_in_at: datetime
    expires_at: datetime
    step_up_required_at: datetime | None
    delivery: str
    persistent: bool
    started_at: datetime
    idle_timeout_s: int
    generation: int
    secret_hash: str
    previous_hash: str | None
    salt: str | None
    token_key: int
    rotated_at: datetime
    last_seen_at: datetime
    idle_expires_at: datetime
    late_retries: list[datetime]
    client: bytes | msgspec.Raw | None
    device_name: str | None
    refusal_recorded_at: datetime | None
    ended_at: datetime | None
    end_reason: str | None


SESSION_COLUMNS = SessionRow.__struct_fields__


class StillSealedError(Exception):
    """A state that still holds sealed personal data cannot be written as a row."""


def rows_of(family: Family) -> list[SessionRow]:
    """The rows that stand for a family, in session order.

    Raises:
        StillSealedError: Its personal data was not opened.
    """
    return [_row(family, session) for session in family.sessions]


def _row(family: Family, session: Session) -> SessionRow:
    client, device_name = session.client, session.device_name
    if isinstance(client, Sealed) or isinstance(device_name, Sealed):
        msg = f"session {session.session_id} still holds sealed personal data"
        raise StillSealedError(msg)
    return SessionRow(
        session.session_id,
        family.family_id,
        session.ordinal,
        family.user_id,
        family.version,
        family.client_id,
        list(family.auth_methods),
        family.signed_in_at,
        family.expires_at,
        family.step_up_required_at,
        session.delivery.value,
        session.persistent,
        session.started_at,
        session.idle_timeout // timedelta(seconds=1),
        session.generation,
        session.secret_hash,
        session.previous_hash,
        session.salt,
        session.token_key,
        session.rotated_at,
        session.last_seen_at,
        session.idle_expires_at,
        list(session.late_retries),
        None if client is None else msgspec.Raw(msgspec.json.encode(client)),
        device_name,
        session.refusal_recorded_at,
        session.ended_at,
        session.end_reason,
    )


def family_of(rows: Iterable[SessionRow]) -> Family:
    """The family that its rows stand for.

    Args:
        rows: All rows of one family, by ``ordinal``.

    Raises:
        ValueError: There are no rows.
    """
    first: SessionRow | None = None
    sessions = []
    for row in rows:
        first = first or row
        sessions.append(_session(row))
    if first is None:
        msg = "a family has at least one row"
        raise ValueError(msg)
    return Family(
        family_id=first.family_id,
        user_id=first.user_id,
        version=first.family_version,
        client_id=first.client_id,
        auth_methods=tuple(first.auth_methods),
        signed_in_at=first.signed_in_at,
        expires_at=first.expires_at,
        step_up_required_at=first.step_up_required_at,
        sessions=tuple(sessions),
    )


def _session(row: SessionRow) -> Session:
    return Session(
        session_id=row.session_id,
        ordinal=row.ordinal,
        delivery=TokenDelivery(row.delivery),
        persistent=row.persistent,
        generation=row.generation,
        secret_hash=row.secret_hash,
        previous_hash=row.previous_hash,
        salt=row.salt,
        token_key=row.token_key,
        started_at=row.started_at,
        rotated_at=row.rotated_at,
        last_seen_at=row.last_seen_at,
        idle_timeout=timedelta(seconds=row.idle_timeout_s),
        idle_expires_at=row.idle_expires_at,
        late_retries=tuple(row.late_retries),
        client=None if row.client is None else _client_decoder.decode(row.client),
        device_name=row.device_name,
        refusal_recorded_at=row.refusal_recorded_at,
        ended_at=row.ended_at,
        end_reason=row.end_reason,
    )
