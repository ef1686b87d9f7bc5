"""Exports that are handed over by HTTP: from the disk, in pieces."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

_CHUNK = 256 * 1024


class SpooledExport:
    """``api.audit_ports.MadeExport``: a file that is open, and need not have a name any more.

    An export is on record, with its hash, before a byte of it is handed over. So it is whole
    before that, and on the disk, since nobody knows how large it will be.
    """

    def __init__(self, path: Path) -> None:
        """Open it; from then on the file may be removed.

        Args:
            path: Where it is.
        """
        self._file = path.open("rb")
        self._size = os.fstat(self._file.fileno()).st_size

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self._size

    async def chunks(self) -> AsyncIterator[bytes]:
        """Its bytes; the file is closed behind them, and when somebody stops before."""
        with self._file:
            while chunk := await asyncio.to_thread(self._file.read, _CHUNK):
                yield chunk
