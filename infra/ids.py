"""Fresh identifiers: UUIDv7 (RFC 9562 §5.7), which sort by time and so keep indexes dense."""

import os
import time

from domain.ids import uuid_text

_VERSION_7 = 0x7000
_VARIANT = 0x8000_0000_0000_0000


def new_uuid() -> str:
    """A UUIDv7: 48 bits of Unix milliseconds, 74 random bits, canonical text."""
    milliseconds = time.time_ns() // 1_000_000
    noise = int.from_bytes(os.urandom(10), "big")
    high = milliseconds << 16 | _VERSION_7 | noise >> 68
    low = _VARIANT | noise & 0x3FFF_FFFF_FFFF_FFFF
    return uuid_text((high << 64 | low).to_bytes(16, "big"))
