"""Where the master and token keys come from: the environment, or a file made at the first start."""

import asyncio
import logging
import time
from collections.abc import Callable

from audit.publication import CHECKPOINT
from domain.refresh_token import TokenKeys
from infra.key_files import KeyRing, KeyRingError, create_key_file, load_key_ring
from infra.sealed_hashes import UnsealedHashesError
from infra.sealing import MasterKeys
from infra.settings import Settings

_LOOK_EVERY_S = 1.0
_ADOPT_AFTER_S = 5.0
_log = logging.getLogger(__name__)


def key_ring(settings: Settings) -> KeyRing:
    """The key ring that the settings name; on an embedded database a missing file is made.

    Raises:
        KeyRingError: Keys are missing, malformed, or readable by others.
    """
    in_environment = settings.master_keys is not None and settings.token_keys is not None
    path = settings.keys_path
    if not in_environment and settings.is_embedded and create_key_file(path):
        _log.warning(
            "made new master and token keys in %s: back this file up; without it no session"
            " can be refreshed and no personal data read",
            path,
        )
    return load_key_ring(
        None if in_environment else path, settings.master_keys, settings.token_keys
    )


def keys_to_seal_with(settings: Settings) -> MasterKeys:
    """The master keys, for sealing the hashes that an older version left in the database.

    A version that publishes heads seals them. So where a head is published they were sealed once,
    and somebody took that back to have this service seal hashes of his own.

    Raises:
        KeyRingError: As ``key_ring``.
        UnsealedHashesError: A head is published.
    """
    published = settings.tree_path / CHECKPOINT
    if published.exists():
        msg = (
            f"the database has hashes that are not sealed, and {published} tells that they were:"
            " it was altered, or set back to an older version's backup. If you did the latter, see"
            ' "After a restored backup" in docs/audit.md'
        )
        raise UnsealedHashesError(msg)
    return key_ring(settings).masters


class FollowedTokenKeys:
    """The token keys in use, following rotations without a restart.

    A new key verifies as soon as it is seen and mints a few seconds later: by then every process
    that shares the file has seen it, so none takes another's token for a forgery.
    """

    def __init__(self, load: Callable[[], KeyRing]) -> None:
        """Begin with what ``load`` reads now.

        Raises:
            KeyRingError: As ``load``.
        """
        self._load = load
        self._tokens = load().tokens
        self._seen: tuple[int, float] = (self._tokens.current_id, 0.0)

    def current(self) -> TokenKeys:
        """The ring to verify and mint with."""
        return self._tokens

    async def run(self) -> None:
        """Look again every second until cancelled; a file that cannot be read changes nothing."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                self._adopt(self._load().tokens, time.monotonic())
            except KeyRingError as error:
                _log.warning("the key ring was not read again: %s", error)

    def _adopt(self, found: TokenKeys, now: float) -> None:
        newest, seen_at = self._seen
        if found.current_id != newest:
            newest, seen_at = self._seen = (found.current_id, now)
        minting = self._tokens.current_id
        if now - seen_at >= _ADOPT_AFTER_S or minting not in found.keys:
            minting = newest
        self._tokens = TokenKeys(minting, found.keys)
