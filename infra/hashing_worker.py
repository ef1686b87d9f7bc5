"""A process that computes argon2id for ``infra.password_hashing``, at a low priority.

A process and not a thread: a thread that is put aside for others, as a low priority asks for, may
hold the interpreter lock just then, and the event loop would wait with it.

It reads a request a line, words in base64 after the first, and answers each with a line:
``hash PASSWORD`` with the hash, ``verify HASH PASSWORD`` with ``fits``, ``differs`` or
``unreadable``. It ends when its input does, so it survives nobody.
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


def _answer(memory_kib: int, passes: int, request: bytes) -> str:
    kind, *words = request[:-1].split(b" ")  # of which one may be empty
    values = [b64decode(word) for word in words]
    if kind == b"hash":
        hashed = crypto_pwhash_str_alg(
            values[0], passes, memory_kib * _KIB, crypto_pwhash_ALG_ARGON2ID13
        )
        return hashed.rstrip(b"\0").decode()
    if _READABLE.fullmatch(values[0]) is None:
        return "unreadable"
    try:
        crypto_pwhash_str_verify(values[0], values[1])
    except InvalidkeyError:
        return "differs"
    return "fits"


def _main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # meant for the service, which then ends our input
    with suppress(OSError):
        os.nice(_NICENESS)
    memory_kib, passes = map(int, sys.argv[1:])
    for request in sys.stdin.buffer:
        sys.stdout.write(_answer(memory_kib, passes, request) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
