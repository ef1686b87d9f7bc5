"""Rows that stayed in the database where the log around them was archived.

Each is a leaf of the archived part, in its order. Which leaves have rows is not known from their
hashes; how many rows there have to be of streams that are always read whole is.
"""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import msgspec

from audit.merkle import leaf_hash
from domain.archives import KEPT_WHOLE
from domain.json_reading import UNREADABLE
from domain.transparency import LogEntry, LogPlace

_PAGE = 8192


class ArchivedPart(Protocol):
    """The archived part of the log, in one snapshot of the database."""

    async def entries_between(
        self, after: LogPlace, last: LogPlace, limit: int
    ) -> Sequence[LogEntry]:
        """Events behind a place, up to another, in the log's order."""
        ...


class ArchivedRows:
    """Looks through the rows of an archived part, bundle by bundle, from the log's beginning."""

    def __init__(self, part: ArchivedPart, last: LogPlace) -> None:
        """Prepare.

        Args:
            part: Where the rows are.
            last: Where the archived part ends.
        """
        self._part = part
        self._last = last
        self._buffer: deque[LogEntry] = deque()
        self._read_to: LogPlace = (0, 0)
        self.kept = 0
        """Rows so far of streams that are always read whole."""

    async def strangers(self, leaves: Sequence[bytes], end: LogPlace | None) -> list[LogEntry]:
        """Rows of a bundle that none of its leaves was signed over, or not in this order.

        Args:
            leaves: The hashes of the bundle's leaves.
            end: Where the next bundle begins, as far as that is known; None for the last one.
        """
        strangers = []
        at = {hashed: index for index, hashed in enumerate(leaves)}
        matched = -1
        while self._buffer or await self._read():
            if end is not None and self._buffer[0].place >= end:
                break
            row = self._buffer.popleft()
            self.kept += is_of_whole_stream(row)
            index = at.get(leaf_hash(row.leaf), -1)
            if index > matched:
                matched = index
            else:
                strangers.append(row)
        return strangers

    async def _read(self) -> bool:
        entries = await self._part.entries_between(self._read_to, self._last, _PAGE)
        if entries:
            self._read_to = entries[-1].place
            self._buffer.extend(entries)
        return bool(entries)


class _OfStream(msgspec.Struct):
    stream: str


_read_stream = msgspec.json.Decoder(_OfStream).decode


def is_of_whole_stream(row: LogEntry) -> bool:
    """Whether a row is of a stream whose rows are never archived away."""
    try:
        return _read_stream(row.leaf).stream.split("-", 1)[0] in KEPT_WHOLE
    except UNREADABLE:
        return False
