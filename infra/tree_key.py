"""Where the tree's signing key is kept: a file of mode 0600, outside the database.

Who may write to the database must not be able to sign heads, so the key is in neither the database
nor under a key that is. The file holds one line, in the form of ``audit.signed_notes``.
"""

import os
import tempfile
from pathlib import Path

from infra.key_files import KeyRingError

_OTHERS_MAY = 0o077
_MAX_BYTES = 4096


def read_tree_key(path: Path) -> str | None:
    """The key in a file; None where there is no such file.

    Raises:
        KeyRingError: It cannot be read, or other accounts can read it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        msg = f"the tree's key {path} cannot be read ({error.strerror}): make it readable to us"
        raise KeyRingError(msg) from error
    if mode & _OTHERS_MAY:
        msg = f"the tree's key {path} is open to other accounts: chmod 600 it"
        raise KeyRingError(msg)
    try:
        return content.decode().strip()
    except UnicodeDecodeError:
        msg = f"the tree's key {path} is no key: restore it from your backup"
        raise KeyRingError(msg) from None


def create_tree_key(path: Path, key: str) -> bool:
    """Put a key into a file, unless there is one: of starters that race, all use the same.

    Args:
        path: Where. Its folder is made with mode 0700 if it is not there.
        key: The key.

    Returns:
        Whether this call made it.

    Raises:
        KeyRingError: It cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=path.name + ".", dir=path.parent)  # 0600
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(key + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # unlike a rename, never over a file that is there
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        msg = f"the tree's key {path} cannot be written ({error.strerror})"
        raise KeyRingError(msg) from error
    return True
