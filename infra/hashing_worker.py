"""A process that computes argon2id for ``infra.password_hashing``, at a low priority.

A process and not a thread: a thread that is put aside for others, as a low priority asks for, may
hold the interpreter lock just then, and the event loop would wait with it.

It reads a request a line, words in base64 after the first, and answers each with a line:
``hash PASSWORD`` with the hash, ``verify HASH PASSWORD`` with ``fits``, ``differs`` or
``unreadable``, in the same time: what cannot be read, or is empty, costs what new hashes cost. It
ends when its input does, so it survives nobody.
"""

import os
import re
import signal
import sys
from base64 import b64decode
from contextlib import suppress

from nacl.bindings import (
    crypto_pwhash_ALG_ARGON2ID13,
    crypto_pwhash_str_alg,
    crypto_pwhash_str_verify,
)
from nacl.exceptions import InvalidkeyError

_KIB = 1024
_READABLE = re.compile(
    rb"\$argon2id\$v=19\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{22,}"
)
"""What libsodium can read. It does not say apart what it cannot, and what does not fit."""
_NICENESS = 19
"""Next to nothing where refreshes want all of the processor, all of it where they do not."""


class _Hashing:
    """argon2id with the parameters of new hashes."""

    def __init__(self, memory_kib: int, passes: int) -> None:
        self._memory = memory_kib * _KIB
        self._passes = passes
        self._nobodys = self._hash(os.urandom(32))

    def answer(self, request: bytes) -> str:
        """The line that answers a line."""
        kind, *words = request[:-1].split(b" ")  # of which one may be empty
        values = [b64decode(word) for word in words]
        if kind == b"hash":
            return self._hash(values[0]).decode()
        stored, password = values
        if _READABLE.fullmatch(stored) is None:
            _fits(self._nobodys, password)
            return "unreadable"
        return "fits" if _fits(stored, password) else "differs"

    def _hash(self, password: bytes) -> bytes:
        made = crypto_pwhash_str_alg(
            password, self._passes, self._memory, crypto_pwhash_ALG_ARGON2ID13
        )
        return made.rstrip(b"\0")


def _fits(stored: bytes, password: bytes) -> bool:
    try:
        crypto_pwhash_str_verify(stored, password)
    except InvalidkeyError:
        return False
    return True


def _main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # meant for the service, which then ends our input
    with suppress(OSError):
        os.nice(_NICENESS)
    hashing = _Hashing(*map(int, sys.argv[1:]))
    for request in sys.stdin.buffer:
        sys.stdout.write(hashing.answer(request) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
