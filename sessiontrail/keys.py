"""Where the master and token keys come from: the environment, or a file made at the first start."""

import logging

from infra.key_files import KeyRing, create_key_file, load_key_ring
from infra.settings import Settings

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
