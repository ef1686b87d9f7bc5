"""One GeoIP file: opened, verified, and replaced when a newer one that works has come."""

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Generic, TypeVar

import maxminddb
from geoip2.database import Reader
from geoip2.errors import AddressNotFoundError

from infra.geoip_records import Schema

_MAXMIND_TYPES = ("GeoIP2-", "GeoLite2-", "GeoIP-")
_VERIFIED_RECORDS = 500
_IPV6 = 6
_UNREADABLE = (
    AttributeError,
    LookupError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What the readers raise on damaged files, and on records of another shape than their type's."""

_log = logging.getLogger(__name__)

T = TypeVar("T")
_Stamp = tuple[int, int, int]


class UnusableFileError(Exception):
    """A file that cannot be used; the message says why."""


@dataclass(slots=True)
class OpenFile(Generic[T]):
    """A file that has been verified.

    Attributes:
        database_type: As the file calls itself.
        epoch: When it was built, in seconds since 1970.
        built: The same as a date.
        find: Its record on an address, read.
        has_ipv6: Whether it holds IPv6 addresses.
        is_damaged: Whether that has shown, and has been said.
    """

    database_type: str
    epoch: int
    built: date
    find: Callable[[str], T | None]
    has_ipv6: bool
    is_damaged: bool = False

    def answer(self, ip: str) -> T | None:
        """What it has on a canonical address; None where it has nothing. Never raises."""
        if not self.has_ipv6 and ":" in ip:
            return None
        try:
            return self.find(ip)
        except _UNREADABLE as error:
            if not self.is_damaged:
                self.is_damaged = True
                _log.warning(
                    "GeoIP file %s is damaged: %s", self.database_type, type(error).__name__
                )
            return None

    def __str__(self) -> str:
        return f"{self.database_type}, built {self.built}"


class WatchedFile(Generic[T]):
    """A file by its path, which may come, change and go while the service runs.

    Args:
        path: Where it is; None where none is configured.
        schema: How it is read.
    """

    def __init__(self, path: Path | None, schema: Schema[T]) -> None:
        self._path = path
        self._schema = schema
        self._stamp: _Stamp | None = None
        self._problem = "not configured" if path is None else "not read yet"
        self.current: OpenFile[T] | None = None

    @property
    def state(self) -> str:
        """What is there, and what is wrong with it, for people. Names no path."""
        if self.current is None:
            return self._problem
        return f"{self.current}; {self._problem}" if self._problem else str(self.current)

    def refresh(self) -> bool:
        """Look at the file, and use it if it has changed. What is in use stays until then.

        Returns:
            Whether another file is in use now.
        """
        if self._path is None:
            return False
        try:
            stamp = _stamp(self._path)
        except FileNotFoundError:
            self._set_aside(None, "no such file")
            return False
        except OSError as error:
            self._set_aside(None, _reason(error))
            return False
        if stamp == self._stamp:
            return False
        try:
            opened = _open_copy(self._path, self._schema)
            if _stamp(self._path) != stamp:
                msg = "it is being written"
                raise UnusableFileError(msg)  # noqa: TRY301 (kept with the others)
        except (OSError, UnusableFileError) as error:
            self._set_aside(stamp, _reason(error))
            return False
        self.current, self._stamp, self._problem = opened, stamp, ""
        _log.info("GeoIP file in use: %s", opened)
        return True

    def _set_aside(self, stamp: _Stamp | None, problem: str) -> None:
        """Go on with what is in use, and say so once."""
        if (stamp, problem) != (self._stamp, self._problem):
            kept = f"{self.current} stays in use" if self.current else "none is in use"
            _log.warning("GeoIP file %s: %s; %s", self._path, problem, kept)
        self._stamp, self._problem = stamp, problem


def _reason(error: OSError | UnusableFileError) -> str:
    """The system's own words for its errors: some that Python raises name folders."""
    if isinstance(error, UnusableFileError):
        return str(error)
    return "cannot be read" if error.errno is None else os.strerror(error.errno)


def _stamp(path: Path) -> _Stamp:
    """Another file, or another content, has another one."""
    status = path.stat()
    return status.st_mtime_ns, status.st_ino, status.st_size


def _open_copy(path: Path, schema: Schema[T]) -> OpenFile[T]:
    """Open a copy that only this process has, and that is gone when it is closed.

    The readers map files into memory. Somebody who writes over a mapped file in place, as
    ``cp`` and ``curl -o`` do, would end the process with a SIGBUS at the next look-up.
    """
    with path.open("rb") as source, NamedTemporaryFile(suffix=".mmdb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
        copy.flush()
        return _open(copy.name, schema)


def _open(name: str, schema: Schema[T]) -> OpenFile[T]:
    try:
        plain = maxminddb.open_database(name)
        metadata = plain.metadata()
        find = _finder(name, plain, metadata.database_type, schema)
        opened = OpenFile(
            metadata.database_type,
            metadata.build_epoch,
            datetime.fromtimestamp(metadata.build_epoch, UTC).date(),
            find,
            metadata.ip_version == _IPV6,
        )
        _verify(plain, opened, schema)
    except _UNREADABLE as error:
        msg = "not a readable MaxMind DB file"
        raise UnusableFileError(msg) from error
    return opened


def _finder(
    name: str, plain: maxminddb.Reader, database_type: str, schema: Schema[T]
) -> Callable[[str], T | None]:
    if not database_type.startswith(_MAXMIND_TYPES):

        def find_plain(ip: str) -> T | None:
            record = plain.get(ip)
            return schema.plain(record) if isinstance(record, dict) else None

        return find_plain

    read = next((read for part, read in schema.maxmind.items() if part in database_type), None)
    if read is None:
        msg = f"{database_type} says nothing of {schema.subject}"
        raise UnusableFileError(msg)
    reader = Reader(name)

    def find(ip: str) -> T | None:
        try:
            return read(reader, ip)
        except AddressNotFoundError:
            return None

    return find


def _verify(plain: maxminddb.Reader, opened: OpenFile[T], schema: Schema[T]) -> None:
    """Read some records as look-ups will: a file of another subject answers nothing at all."""
    networks = [network for network, _ in islice(plain, _VERIFIED_RECORDS)]
    answers = [opened.find(str(network.network_address)) for network in networks]
    if networks and all(answer is None for answer in answers):
        msg = f"{opened.database_type} says nothing of {schema.subject}"
        raise UnusableFileError(msg)
