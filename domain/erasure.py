"""What an erasure is told, and what it tells."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from domain.ids import UserId
from domain.texts import InvalidTextError

_REASON: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/#-]{0,99}", re.ASCII)
"""Enough for a ticket's number and a few words; too little for an e-mail address."""


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """The report of one erasure.

    Attributes:
        user_id: Who was erased; the id is all that is left.
        erased_at: When, by the database's clock.
        is_repeat: Whether they had been erased before. What a repeat still found to clear is
            counted like the first time; it should be nothing.
        families: How many session families ended with it.
        rows: By table, how many rows were removed, or lost what was personal in them.
    """

    user_id: UserId
    erased_at: datetime
    is_repeat: bool
    families: int
    rows: Mapping[str, int]


def clean_reason(text: str) -> str:
    """A reason for an erasure: it outlives the person, so it is short and plain.

    Raises:
        InvalidTextError: It is not like that.
    """
    stripped = text.strip()
    if not _REASON.fullmatch(stripped):
        msg = (
            "a reason is up to 100 letters, digits, spaces and . _ : / # -,"
            " such as a ticket's number: it stays in the log"
        )
        raise InvalidTextError(msg)
    return stripped
