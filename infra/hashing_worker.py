"""A process that computes argon2id for ``infra.password_hashing``, at a low priority.

A process and not a thread: a thread that is put aside for others, as a low priority asks for, may
hold the interpreter lock just then, and the event loop would wait with it.

It reads a request a line, words in base64 after the first, and answers each with a line:
``hash PASSWORD`` with the hash, ``verify HASH PASSWORD`` with ``fits``, ``differs`` or
``unreadable``. It ends when its input does, so it survives nobody.
"""

import os
import signal
import sys
from base64 import b64decode
from contextlib import suppress

import argon2
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

_NICENESS = 10
"""About a tenth of the processor where refreshes want all of it, all of it where they do not."""


def _answer(hasher: argon2.PasswordHasher, request: bytes) -> str:
    kind, *words = request[:-1].split(b" ")  # of which one may be empty
    values = [b64decode(word) for word in words]
    if kind == b"hash":
        return hasher.hash(values[0])
    try:
        hasher.verify(values[0], values[1])
    except VerifyMismatchError:
        return "differs"
    except (InvalidHashError, VerificationError, UnicodeDecodeError):
        return "unreadable"
    return "fits"


def _main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # meant for the service, which then ends our input
    with suppress(OSError):
        os.nice(_NICENESS)
    memory_kib, passes, lanes = map(int, sys.argv[1:])
    hasher = argon2.PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=lanes)
    for request in sys.stdin.buffer:
        sys.stdout.write(_answer(hasher, request) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
