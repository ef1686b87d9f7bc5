"""The key ring: master keys and refresh-token keys, from the environment or a file of mode 0600.

The file is JSON: ``{"format":1,"master":{"current":1,"keys":{"1":"<base64>"}},"token":{...}}``.
It appears whole or not at all, and a rotation only ever adds to it: what an old key has wrapped or
minted still opens. A process reads its ring at start, so after a rotation every one has to be
restarted; where refresh tokens are minted by several, see ``rotate_token_key``.
"""

import fcntl
import os
import re
import tempfile
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from domain.refresh_token import MAX_KEY_ID, TokenKeys
from infra.sealing import MasterKeys

_KEY_BYTES = 32
_MAX_FILE_BYTES = 1 << 20
_FORMAT = 1
_OTHERS_MAY = 0o077
_ENTRY = re.compile(r"([1-9][0-9]{0,4}):([A-Za-z0-9+/]+={0,2})", re.ASCII)


class KeyRingError(Exception):
    """Keys that are missing, malformed or badly kept: one line that says what to do, and no key."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys that everything else is kept safe with. Neither part shows a key when printed.

    Attributes:
        masters: Wrap the subjects' data keys and the signing keys.
        tokens: Make the MAC of refresh tokens.
    """

    masters: MasterKeys
    tokens: TokenKeys


class _Keys(msgspec.Struct, forbid_unknown_fields=True):
    current: int
    keys: dict[int, bytes]

    def add(self, key: bytes) -> int:
        """Put a further key into the ring and make it the current one."""
        self.current = max(self.keys) + 1
        self.keys[self.current] = key
        return self.current


class _KeyFile(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    master: _Keys
    token: _Keys


def load_key_ring(path: Path | None, master_env: str | None, token_env: str | None) -> KeyRing:
    """Read the key ring. Either kind of key comes from its variable, where that is set.

    Args:
        path: The key file; None where there is none.
        master_env: ``"1:BASE64[,2:BASE64...]"``, each key of exactly 32 bytes; the highest id is
            the current one.
        token_env: The same for the refresh-token keys, each of at least 32 bytes.

    Raises:
        KeyRingError: A key is missing, malformed or too short, or others may read the file.
    """
    masters = _parse_variable(master_env, "master") if master_env else None
    tokens = _parse_variable(token_env, "token") if token_env else None
    if masters is None or tokens is None:
        if path is None:
            missing = "master" if masters is None else "token"
            msg = f"there are no {missing} keys: set their environment variable or name a key file"
            raise KeyRingError(msg)
        kept = _read(path)
        masters, tokens = masters or kept.master, tokens or kept.token
    return KeyRing(
        MasterKeys(masters.current, masters.keys), TokenKeys(tokens.current, tokens.keys)
    )


def create_key_file(path: Path) -> bool:
    """Make a key file with fresh keys, unless there is one: starters that race agree on one file.

    Args:
        path: Where. Its folder is made with mode 0700 if it is not there.

    Returns:
        Whether this call made it.

    Raises:
        KeyRingError: It cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _turn(path) as folder:
            if path.exists():
                return False
            fresh = _KeyFile(_FORMAT, _Keys(1, {1: _fresh_key()}), _Keys(1, {1: _fresh_key()}))
            with _written_beside(path, fresh) as temporary:
                try:
                    os.link(temporary, path)  # unlike a rename, never over a file that is there
                except FileExistsError:
                    return False
            os.fsync(folder)
            return True
    except OSError as error:
        raise _unwritable(path, error) from error


def rotate_master_key(path: Path) -> int:
    """Add a master key that wraps from the next start on; the older ones still open.

    Returns:
        Its id.

    Raises:
        KeyRingError: The file is missing, malformed, open to others or cannot be replaced.
    """
    return _rotate(path, "master")


def rotate_token_key(path: Path) -> int:
    """Add a refresh-token key; the older ones still verify.

    A process takes a token under a key that it has not read yet for a forgery, so a running
    service follows the file and mints under a new key only once all others have seen it.

    Returns:
        Its id.

    Raises:
        KeyRingError: The file is missing, malformed, open to others or cannot be replaced.
    """
    return _rotate(path, "token")


def _rotate(path: Path, kind: Literal["master", "token"]) -> int:
    path = path.resolve()  # so that a link to it stays one
    if not path.exists():
        raise _missing(path)
    try:
        with _turn(path) as folder:
            kept = _read(path)
            added = (kept.master if kind == "master" else kept.token).add(_fresh_key())
            if added > MAX_KEY_ID:
                msg = f"the key file {path} has used up its {kind} key ids: no key can be added"
                raise KeyRingError(msg)
            with _written_beside(path, kept) as temporary:
                _keep_owner(path, temporary)
                temporary.replace(path)
            os.fsync(folder)
            return added
    except OSError as error:
        raise _unwritable(path, error) from error


@contextmanager
def _turn(path: Path) -> Iterator[int]:
    """Hold the file's folder, so that of two who rotate at once neither loses the other's key."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(folder)


@contextmanager
def _written_beside(path: Path, content: _KeyFile) -> Iterator[Path]:
    """A file to be moved to ``path``: mode 0600 from its first moment, on the disk, gone after."""
    descriptor, name = tempfile.mkstemp(prefix=path.name + ".", dir=path.parent)  # O_EXCL, 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _keep_owner(path: Path, temporary: Path) -> None:
    """Root that rotates for the service must not take the file away from it."""
    before = path.stat()
    if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()) and os.geteuid() == 0:
        os.chown(temporary, before.st_uid, before.st_gid)


def _read(path: Path) -> _KeyFile:
    try:
        with path.open("rb") as file:
            # Of the open file, not of the name: that may lead to another one by now.
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_MAX_FILE_BYTES)
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        msg = f"the key file {path} cannot be read ({error.strerror}): make it readable to us alone"
        raise KeyRingError(msg) from error
    if mode & _OTHERS_MAY:
        msg = f"the key file {path} is open to other accounts: chmod 600 it, then rotate its keys"
        raise KeyRingError(msg)
    try:
        kept = msgspec.json.decode(content, type=_KeyFile)
    except msgspec.MsgspecError:
        raise _malformed(path, "is no key file of ours") from None  # the cause may quote a key
    if kept.format != _FORMAT:
        raise _malformed(path, f"has format {kept.format}, this build reads {_FORMAT}")
    for kind, keys in (("master", kept.master), ("token", kept.token)):
        fault = _fault(keys, kind)
        if fault is not None:
            raise _malformed(path, fault)
    return kept


def _parse_variable(text: str, kind: str) -> _Keys:
    keys: dict[int, bytes] = {}
    for number, entry in enumerate(text.split(","), 1):
        match = _ENTRY.fullmatch(entry.strip())
        key = _decode(match[2]) if match else None
        if match is None or key is None:
            msg = f"entry {number} of the {kind} keys is not ID:BASE64 (openssl rand -base64 32)"
            raise KeyRingError(msg)
        if int(match[1]) in keys:
            msg = f"the {kind} keys have two with id {match[1]}: give each its own"
            raise KeyRingError(msg)
        keys[int(match[1])] = key
    ring = _Keys(max(keys), keys)
    fault = _fault(ring, kind)
    if fault is not None:
        msg = f"the environment's key ring {fault}: make a key with openssl rand -base64 32"
        raise KeyRingError(msg)
    return ring


def _decode(text: str) -> bytes | None:
    try:
        return b64decode(text, validate=True)
    except Base64Error:
        return None


def _fault(ring: _Keys, kind: str) -> str | None:
    """What is wrong with a ring, or None."""
    if ring.current not in ring.keys:
        return f"names {kind} key {ring.current} as current and does not have it"
    for key_id, key in sorted(ring.keys.items()):
        if not 1 <= key_id <= MAX_KEY_ID:
            return f"has a {kind} key with id {key_id}, ids are 1 to {MAX_KEY_ID}"
        if kind == "master" and len(key) != _KEY_BYTES:
            return f"has a master key {key_id} of {len(key)} bytes, it must have {_KEY_BYTES}"
        if len(key) < _KEY_BYTES:
            return f"has a {kind} key {key_id} of {len(key)} bytes, it needs {_KEY_BYTES}"
    return None


def _fresh_key() -> bytes:
    return os.urandom(_KEY_BYTES)


def _missing(path: Path) -> KeyRingError:
    return KeyRingError(
        f"there is no key file {path}: restore it, for without its keys stored data does not open"
    )


def _malformed(path: Path, fault: str) -> KeyRingError:
    return KeyRingError(f"the key file {path} {fault}: restore it from your backup")


def _unwritable(path: Path, error: OSError) -> KeyRingError:
    return KeyRingError(
        f"the key file {path} cannot be written ({error.strerror}): make its folder writable to us"
    )
