"""Reads a request file beside what the player answered to each of its lines."""

from collections.abc import Iterable, Iterator
from datetime import datetime

import msgspec

from detector.world.attacks import GROUP_KINDS, Kind
from domain.detection import Response

_GROUPS = {kind.value for kind in GROUP_KINDS}
_ATTACK = "attack:"


class Place(msgspec.Struct, frozen=True):
    """What the file says of an address, as far as the scorer needs it."""

    country: str | None = None
    asn: int | None = None


class Request(msgspec.Struct, frozen=True):
    """A line of the request file, as far as the scorer needs it."""

    at: datetime
    do: str
    user: str = ""
    family: str = ""
    ip: str = ""
    geo: Place | None = None
    label: str = ""

    @property
    def is_attack(self) -> bool:
        """Whether an attacker made it. Verdicts are made by analysts."""
        return self.label.startswith(_ATTACK) and self.do != "verdict"


class Finding(msgspec.Struct, frozen=True):
    """What a rule said."""

    rule: str
    response: Response
    severity: str = ""
    score: float | None = None
    family: str | None = None
    user: str | None = None

    @property
    def is_alert(self) -> bool:
        """Whether anybody is told of it."""
        return self.response is not Response.RECORD

    @property
    def is_about_many(self) -> bool:
        """Whether it names nobody: a burst over many accounts."""
        return self.user is None and self.family is None

    @property
    def revokes(self) -> bool:
        """Whether it ends sessions."""
        return self.response.rank > Response.STEP_UP.rank


class Answer(msgspec.Struct, frozen=True):
    """A line of the player's output. A line that it could not read has no result of these."""

    line: int
    result: str = ""
    findings: tuple[Finding, ...] = ()


class AttackId(msgspec.Struct, frozen=True):
    """One attack on one victim; a burst is one attack on all of its victims."""

    kind: Kind
    variant: str
    number: int
    family: str = ""


class MismatchError(Exception):
    """The two files do not belong together, or are not what they should be."""


def attack_of(request: Request) -> AttackId | None:
    """The attack that a line belongs to, from its label; None for an honest one.

    Raises:
        MismatchError: The label is none of this world's.
    """
    if not request.is_attack:
        return None
    name, _, number = request.label.removeprefix(_ATTACK).partition("#")
    kind, _, variant = name.partition(":")
    family = request.family if kind in _GROUPS else ""
    try:
        return AttackId(Kind(kind), variant, int(number or 0), family)
    except ValueError:
        msg = f"no attack is labelled {request.label}"
        raise MismatchError(msg) from None


def requests(lines: Iterable[bytes]) -> Iterator[Request]:
    """The lines of a request file.

    Raises:
        MismatchError: A line is no request.
    """
    decoder = msgspec.json.Decoder(Request)
    for number, line in enumerate(lines, start=1):
        try:
            yield decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            msg = f"line {number} of the world is no request: {error}"
            raise MismatchError(msg) from error


def answered(lines: Iterable[bytes], answers: Iterable[bytes]) -> Iterator[tuple[Request, Answer]]:
    """Each request with its answer.

    Raises:
        MismatchError: A line cannot be read, or an answer is missing or belongs to another line.
    """
    decoder = msgspec.json.Decoder(Answer)
    rest = iter(answers)
    for number, request in enumerate(requests(lines), start=1):
        text = next(rest, None)
        if text is None:
            msg = f"line {number} of the world has no answer: was all of it played?"
            raise MismatchError(msg)
        try:
            answer = decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            msg = f"answer {number} is none: {error}"
            raise MismatchError(msg) from error
        if answer.line != number:
            msg = f"answer {number} is about line {answer.line}"
            raise MismatchError(msg)
        yield request, answer
