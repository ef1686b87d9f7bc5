"""What the player says of each line, as JSON."""

from collections.abc import Sequence

import msgspec

from detector.findings import Finding
from detector.simulation.results import Played, Result

_encoder = msgspec.json.Encoder()


class _Finding(msgspec.Struct, frozen=True):
    rule: str
    severity: str
    response: str
    score: float | None
    family: str | None
    user: str | None
    facts: dict[str, int]


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    line: int
    result: str
    findings: Sequence[_Finding]
    error: str | None = None


def played_line(number: int, played: Played) -> bytes:
    """The answer to a request."""
    if not played.findings:
        return b'{"line":%d,"result":"%b","findings":[]}' % (number, played.result.value.encode())
    return _encoder.encode(_Line(number, played.result.value, [*map(_told, played.findings)]))


def bad_line(number: int, why: str) -> bytes:
    """The answer to a line that is not a request."""
    return _encoder.encode(_Line(number, Result.REFUSED.value, [], why))


def _told(finding: Finding) -> _Finding:
    return _Finding(
        finding.rule,
        finding.severity.value,
        finding.response.value,
        finding.score,
        finding.family_id,
        finding.user_id,
        {fact.code: fact.weight for fact in finding.facts},
    )
