"""Request files: opened, and read line by line, however long a line is."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from detector.simulation.requests import BadLineError, Request, read_request
from sessiontrail.commands.context import CommandError

_BUFFER = 1 << 20
_LONGEST = 1 << 18
_BOM = b"\xef\xbb\xbf"


@contextmanager
def opened_requests(file: Path) -> Iterator[BinaryIO]:
    """A request file, or standard input for ``-``, for as long as the block lasts.

    Raises:
        CommandError: It cannot be read.
    """
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        opened = file.open("rb", _BUFFER)
    except OSError as error:
        msg = f"cannot read {file}: {error.strerror}"
        raise CommandError(msg) from error
    with opened:
        yield opened


def numbered_requests(
    file: BinaryIO,
) -> Iterator[tuple[int, Request | BadLineError]]:
    """Each line's number, and the request that it is, or why it is none.

    Blank lines are passed over. A line longer than 262,144 bytes is none, and is not kept.
    """
    for number, line in _numbered_lines(file):
        if len(line) > _LONGEST:
            yield number, BadLineError(f"longer than {_LONGEST:,} bytes")
        elif not line.isspace():
            try:
                yield number, read_request(line)
            except BadLineError as error:
                yield number, error


def _numbered_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(_LONGEST + 1):
        number += 1
        yield number, line.removeprefix(_BOM) if number == 1 else line
        while not line.endswith(b"\n") and (line := file.readline(_BUFFER)):
            pass  # the rest of one that is too long
