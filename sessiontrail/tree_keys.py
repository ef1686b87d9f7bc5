"""The transparency log's key: its private half, which signs, and its public one, which checks."""

import logging
import os
from collections.abc import Callable

from audit.signed_notes import NoteKeyError, Signer, Verifier, parse_signer, parse_verifier
from infra.key_files import KeyRingError
from infra.settings import Settings, SettingsError
from infra.tree_key import create_tree_key, read_tree_key

_SEED_BYTES = 32
_log = logging.getLogger(__name__)


def tree_origin(settings: Settings) -> str:
    """The log's name as set, else the address that it is read under, without its scheme."""
    if settings.tree_origin is not None:
        return settings.tree_origin
    return settings.public_issuer.partition("://")[2] + "/tlog"


def tree_signer(settings: Settings) -> Signer:
    """The key that the settings name.

    Raises:
        KeyRingError: There is none, or it is malformed or readable by others.
        SettingsError: It is another log's.
    """
    try:
        if settings.tree_key is not None:
            return _of_origin(settings, parse_signer(settings.tree_key.strip()))
        kept = read_tree_key(settings.tree_key_path)
        if kept is None:
            msg = (
                f"there is no tree key {settings.tree_key_path}: restore it,"
                " or make one with `sessiontrail audit key --new`"
            )
            raise KeyRingError(msg)
        return _of_origin(settings, parse_signer(kept))
    except NoteKeyError as error:
        where = "SESSIONTRAIL_TREE_KEY" if settings.tree_key else str(settings.tree_key_path)
        msg = f"{where} holds no key of a tree: {error}"
        raise KeyRingError(msg) from None


def make_tree_key(settings: Settings) -> bool:
    """Make a key in the settings' file, unless there is one.

    Returns:
        Whether there was none.

    Raises:
        KeyRingError: It cannot be written.
        SettingsError: The log's name cannot be one.
    """
    try:
        signer = Signer(tree_origin(settings), os.urandom(_SEED_BYTES))
    except NoteKeyError as error:
        msg = f"SESSIONTRAIL_TREE_ORIGIN: {error}"
        raise SettingsError(msg) from error
    made = create_tree_key(settings.tree_key_path, signer.exported())
    if made:
        _log.warning(
            "made a new tree key in %s: back this file up; a log whose key is lost cannot go on",
            settings.tree_key_path,
        )
    return made


def tree_verifier(settings: Settings, key: str | None = None) -> Verifier:
    """The key that signatures are checked with.

    Args:
        settings: The settings.
        key: A public key that somebody gave; None to derive it from the tree's key.

    Raises:
        KeyRingError: It is no public key, or there is no key of the tree.
        SettingsError: As ``tree_signer``.
    """
    if key is None:
        return tree_signer(settings).verifier
    try:
        return parse_verifier(key.strip())
    except NoteKeyError as error:
        raise KeyRingError(str(error)) from error


def published_key(settings: Settings) -> Callable[[], Verifier | None]:
    """Says the log's public key, as a service knows it; None where it knows none so far.

    It is looked for until it is found: a log keeps its key, but the key may be made after the
    service has begun.

    Raises:
        SettingsError: They give a public key that is none.
    """
    try:
        found = (
            None if (given := settings.tree_public_key) is None else parse_verifier(given.strip())
        )
    except NoteKeyError as error:
        msg = f"SESSIONTRAIL_TREE_PUBLIC_KEY: {error}"
        raise SettingsError(msg) from error

    def known() -> Verifier | None:
        nonlocal found
        if found is None:
            try:
                found = tree_verifier(settings)
            except (KeyRingError, SettingsError) as error:
                _log.info("signatures of heads are not checked: %s", error)
        return found

    return known


def _of_origin(settings: Settings, signer: Signer) -> Signer:
    name = signer.verifier.name
    if settings.tree_origin is not None and settings.tree_origin != name:
        msg = f"SESSIONTRAIL_TREE_ORIGIN: the tree's key is of {name!r}, not of that log"
        raise SettingsError(msg)
    return signer
