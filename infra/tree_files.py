"""A folder of published files: each appears whole or not at all."""

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

_FOLDER_MODE = 0o755
_FILE_MODE = 0o644


class TreeFolder:
    """``audit.tree_ports.Folder`` on the disk; what it does there is off the event loop."""

    def __init__(self, root: Path) -> None:
        """Publish below ``root``, which is made when something is written."""
        self._root = root

    async def read(self, path: str) -> bytes | None:
        """See ``Folder.read``."""
        return await asyncio.to_thread(self._read, path)

    async def missing(self, lengths: Mapping[str, int]) -> list[str]:
        """See ``Folder.missing``."""
        return await asyncio.to_thread(self._missing, lengths)

    async def write(self, files: Mapping[str, bytes]) -> None:
        """See ``Folder.write``."""
        await asyncio.to_thread(self._write, files)

    async def write_durably(self, path: str, content: bytes) -> None:
        """See ``Folder.write_durably``."""
        await asyncio.to_thread(self._write_durably, path, content)

    async def remove(self, folders: Sequence[str]) -> None:
        """See ``Folder.remove``."""
        if folders:
            await asyncio.to_thread(self._remove, folders)

    def _read(self, path: str) -> bytes | None:
        try:
            return (self._root / path).read_bytes()
        except FileNotFoundError:
            return None

    def _missing(self, lengths: Mapping[str, int]) -> list[str]:
        return [path for path, length in lengths.items() if self._length(path) != length]

    def _length(self, path: str) -> int | None:
        try:
            return (self._root / path).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _write(self, files: Mapping[str, bytes]) -> None:
        for path, content in files.items():
            self._put(self._root / path, content, durably=False)

    def _write_durably(self, path: str, content: bytes) -> None:
        self._put(self._root / path, content, durably=True)

    def _put(self, target: Path, content: bytes, *, durably: bool) -> None:
        # One writer at a time has a temporary name of its own: another may publish just now.
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            file = temporary.open("wb")
        except FileNotFoundError:
            target.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            file = temporary.open("wb")
        with file:
            os.fchmod(file.fileno(), _FILE_MODE)
            file.write(content)
            if durably:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(target)

    def _remove(self, folders: Sequence[str]) -> None:
        for folder in folders:
            shutil.rmtree(self._root / folder, ignore_errors=True)
