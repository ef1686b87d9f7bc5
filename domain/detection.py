"""What rules say and what is done about it: what alerts and detection policies are made of."""

from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """How bad it is, if it is what it looks like."""

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for the least."""
        return _SEVERITIES.index(self)


class Response(StrEnum):
    """What is done about a finding, from nothing to everything."""

    RECORD = "record"
    """Put on record; nobody is told."""
    ALERT = "alert"
    """An analyst is told."""
    STEP_UP = "step_up"
    """The family's next refresh is refused until the user proves themself again (RFC 9470)."""
    REVOKE_SESSION = "revoke_session"
    REVOKE_FAMILY = "revoke_family"
    REVOKE_ALL = "revoke_all"
    """Every family of the user."""

    @property
    def rank(self) -> int:
        """0 for the least."""
        return _RESPONSES.index(self)

    @property
    def acts(self) -> bool:
        """Whether it does something to a session."""
        return self.rank >= _RESPONSES.index(Response.STEP_UP)


_SEVERITIES = list(Severity)
_RESPONSES = list(Response)


class Verdict(StrEnum):
    """What an analyst, or the user, says an alert was."""

    TRUE_POSITIVE = "true_positive"
    FALSE_POSITIVE = "false_positive"
    BENIGN = "benign"
    """It happened as described, and was meant to."""

    @property
    def clears(self) -> bool:
        """Whether it was the user after all, so that the detector may learn from it."""
        return self is not Verdict.TRUE_POSITIVE


class Fact(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that spoke for a finding.

    Attributes:
        code: Stable name, such as ``new_asn``; not personal.
        weight: Points, of about a hundred that make certainty.
        value: What was seen, in words; personal.
        usual: What was to be expected, in words; personal.
    """

    code: str
    weight: int = 0
    value: str = ""
    usual: str = ""


class Outcome(StrEnum):
    """What became of a response."""

    DONE = "done"
    NOTHING_LEFT = "nothing_left"
    """It had ended before."""
    HELD_BACK = "held_back"
    """The rule would have acted on too many in too short a time (circuit breaker)."""
