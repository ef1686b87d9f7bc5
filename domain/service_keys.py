"""A trusted backend's key, as the rules see it: who it is and what it may ask for."""

from datetime import datetime
from enum import StrEnum

import msgspec


class ServiceScope(StrEnum):
    """What a service key may be allowed to do: a closed set."""

    CREATE_SESSIONS = "sessions:create"
    """Sign in a subject that the backend has authenticated itself."""
    INTROSPECT_TOKENS = "tokens:introspect"
    """Ask whether a token is active (RFC 7662)."""


class ServiceKey(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a service key. Its secret is not: only a hash of that is stored.

    Attributes:
        key_id: 16 hexadecimal digits, public: the part of the key that logs and events name.
        name: What the operator calls the backend.
        scopes: What it may do.
        created_at: When it was added.
        revoked_at: When it was taken away, or None.
    """

    key_id: str
    name: str
    scopes: frozenset[ServiceScope]
    created_at: datetime
    revoked_at: datetime | None = None

    def allows(self, scope: ServiceScope) -> bool:
        """Whether the key may do that."""
        return scope in self.scopes
