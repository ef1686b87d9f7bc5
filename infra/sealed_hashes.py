"""Hashes of passwords and of service keys, sealed by the master key for what they stand for.

The log does not have these hashes, so nothing else would tell that somebody with the database alone
put one of his own there. A box opens for the user and the count of password changes, or for the
key with the name and scopes, that it was made for, and for nobody and nothing else.
"""

import logging
from collections.abc import Sequence

from domain.events.canonical import JsonValue, canonical_json
from infra.sealing import MasterKeys, UnsealError

NO_HASH = ""
"""What a box holds that does not open: no secret fits it, and trying one takes as long."""

_log = logging.getLogger(__name__)


class UnsealedHashesError(Exception):
    """Hashes of an older version cannot be sealed; the message says why and what to do."""


class SealedHashes:
    """Seals and opens hashes with the master keys."""

    def __init__(self, masters: MasterKeys) -> None:
        """Seal with the newest of these keys; open with any."""
        self._masters = masters

    def seal_password(self, user_id: str, epoch: int, password_hash: str) -> bytes:
        """The hash of a user's password, sealed for them and how often they changed it."""
        return self._masters.wrap(password_hash.encode(), _of_password(user_id, epoch))

    def open_password(self, user_id: str, epoch: int, box: bytes) -> str:
        """The hash in a box; ``NO_HASH`` where it is not this user's of this epoch."""
        opened = self._opened(box, _of_password(user_id, epoch))
        if opened is None:
            _log.error(
                "the password hash of user %s was not sealed by this service: they cannot sign in",
                user_id,
            )
        return NO_HASH if opened is None else opened

    def seal_key(self, key_id: str, name: str, scopes: Sequence[str], secret_hash: str) -> bytes:
        """The hash of a service key's secret, sealed for its id, name and scopes."""
        return self._masters.wrap(secret_hash.encode(), _of_key(key_id, name, scopes))

    def open_key(self, key_id: str, name: str, scopes: Sequence[str], box: bytes) -> str:
        """The hash in a box; ``NO_HASH`` where it is not of this key as it is given."""
        opened = self._opened(box, _of_key(key_id, name, scopes))
        if opened is None:
            _log.error(
                "service key %s was not sealed by this service as its row has it: it is refused",
                key_id,
            )
        return NO_HASH if opened is None else opened

    def _opened(self, box: bytes, owner: str) -> str | None:
        try:
            return self._masters.unwrap(box, owner).decode()
        except (UnsealError, UnicodeDecodeError):
            return None


# Written as JSON: no name or scope can be worded so that it reads as another key's. No wrapped key
# has an owner that begins with a brace.
def _of_password(user_id: str, epoch: int) -> str:
    return _owner({"password_of": user_id, "epoch": epoch})


def _of_key(key_id: str, name: str, scopes: Sequence[str]) -> str:
    return _owner({"service_key": key_id, "name": name, "scopes": list(scopes)})


def _owner(named: dict[str, JsonValue]) -> str:
    return canonical_json(named).decode()
