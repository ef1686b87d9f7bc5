"""What is no archive is refused as such, whatever it holds."""

import gzip
from pathlib import Path

import pytest

from audit.archive_files import ArchiveFileError, read_header


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[1]",
        b"\xff\x00",
        pytest.param(b'{"export":' * 5_000, id="deep"),
    ],
)
def test_a_file_that_begins_as_no_archive_does_is_refused(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress(line + b"\n"))

    with pytest.raises(ArchiveFileError, match="is no archive"):
        read_header(path)
