"""What the addresses of the audit pages say: which moment, whose, and from where on."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query

from api.console.words import sentence
from api.problems import ProblemError, ProblemKind
from api.replay import moment_in
from domain.as_of import AsOf, AtInstant

AUDIT = "/console/audit"
DIFFERENCES = f"{AUDIT}/diff"
EVENTS = f"{AUDIT}/events"
EXPORTS = f"{AUDIT}/exports"

Asked = Annotated[str, Query(max_length=64)]
"""A moment or a user, as a form sends it: empty where its field was."""
After = Annotated[str, Query(max_length=200)]


def address(page: str, said: Mapping[str, str | None]) -> str:
    """The address of a page that says these things, without those that are not said."""
    query = urlencode({name: value for name, value in said.items() if value})
    return f"{page}?{query}" if query else page


def first_and_next(
    page: str, said: Mapping[str, str | None], after: str, next_after: str | None
) -> dict[str, str | None]:
    """Where a list begins and where it goes on: ``first`` and ``next``, None where that is here.

    Args:
        page: The page.
        said: What its address says beside.
        after: Where this page of the list begins; empty at the first.
        next_after: Where the next one does; None at the last.
    """
    return {
        "first": address(page, said) if after else None,
        "next": address(page, {**said, "after": next_after}) if next_after else None,
    }


def written(moment: AsOf) -> str:
    """A moment as the form holds it, and as it is read again."""
    return str(moment).replace("+00:00", "Z")


def correctable(error: ProblemError) -> str:
    """What is wrong with what a form says, as a sentence.

    Raises:
        ProblemError: It is nothing that whoever filled it in can correct.
    """
    if error.kind not in {ProblemKind.INVALID_INPUT, ProblemKind.NOT_FOUND}:
        raise error
    return sentence(error.detail or error.kind.title)


def moment_asked(where: str, text: str, otherwise: datetime) -> AsOf:
    """A moment as an address gives it.

    Args:
        where: The field's name.
        text: What it holds.
        otherwise: The moment where it is empty.

    Raises:
        ProblemError: It is no moment.
    """
    return moment_in(where, text) if text.strip() else AtInstant(otherwise)
