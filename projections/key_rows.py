"""The tables ``signing_keys`` and ``service_keys`` as the log has them.

Nothing is folded to serve requests: the tables are what counts there. This says what they have to
be, for whoever verifies them. Secrets are not in the log, so they are not compared.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import msgspec

from domain.events.canonical import from_microseconds
from domain.events.keys import (
    ServiceKeyAdded,
    ServiceKeyRevoked,
    SigningKeyCreated,
    SigningKeyRetired,
)
from domain.events.registry import Event


class SigningKeyRow(msgspec.Struct, frozen=True):
    """A row of ``signing_keys``, less the private key; the fields are its columns."""

    kid: str
    algorithm: str
    public_jwk: bytes
    created_at: datetime
    signs_from: datetime
    retired_at: datetime | None
    verifies_until: datetime | None


class ServiceKeyRow(msgspec.Struct, frozen=True):
    """A row of ``service_keys``, less the hash of its secret; the fields are its columns."""

    key_id: str
    name: str
    scopes: list[str]
    created_at: datetime
    revoked_at: datetime | None


class KeyRows(NamedTuple):
    """What the two tables have to hold, by primary key."""

    signing: dict[str, SigningKeyRow]
    service: dict[str, ServiceKeyRow]


class KeyEvent(NamedTuple):
    """An event of a key, and when it happened."""

    event: Event
    at: datetime


def key_rows(events: Iterable[KeyEvent]) -> KeyRows:
    """The rows that stand for what happened to keys.

    Args:
        events: Of all keys; those of one key in the order of its stream.
    """
    known = list(events)
    # A key that replaces others is made at the instant at which they are retired.
    takes_over = {
        at: from_microseconds(event.signs_from_us)
        for event, at in known
        if isinstance(event, SigningKeyCreated)
    }
    rows = KeyRows({}, {})
    for event, at in known:
        match event:
            case SigningKeyCreated():
                rows.signing[event.kid] = SigningKeyRow(
                    kid=event.kid,
                    algorithm=event.algorithm,
                    public_jwk=event.public_jwk.encode(),
                    created_at=at,
                    signs_from=from_microseconds(event.signs_from_us),
                    retired_at=None,
                    verifies_until=None,
                )
            case SigningKeyRetired() if event.kid in rows.signing:
                rows.signing[event.kid] = msgspec.structs.replace(
                    rows.signing[event.kid],
                    retired_at=at if event.compromised else takes_over.get(at),
                    verifies_until=from_microseconds(event.verifies_until_us),
                )
            case ServiceKeyAdded():
                rows.service[event.key_id] = ServiceKeyRow(
                    event.key_id, event.name, event.scopes, at, None
                )
            case ServiceKeyRevoked() if event.key_id in rows.service:
                rows.service[event.key_id] = msgspec.structs.replace(
                    rows.service[event.key_id], revoked_at=at
                )
            case _:
                pass  # a key that the log has no beginning of: its row is one too many
    return rows
