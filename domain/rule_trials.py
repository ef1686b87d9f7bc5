"""A back-test of one rule: what it found in the last days, and what it would have found."""

import msgspec

from domain.detection_policy import RuleSettings


class TrialAsked(msgspec.Struct, frozen=True):
    """What is to be tried: a rule, and other settings of it."""

    rule: str
    settings: RuleSettings


class TrialRecord(msgspec.Struct, frozen=True):
    """How the rule did.

    Attributes:
        findings: Whatever it said.
        alerts: What an analyst would have seen.
        confirmed: Of these, about what was judged to be an attack.
        refuted: About what was judged to be none.
    """

    findings: int = 0
    alerts: int = 0
    confirmed: int = 0
    refuted: int = 0


class RuleTrial(msgspec.Struct, frozen=True):
    """What a trial came to.

    Attributes:
        events: How many were played.
        days: From the first to the last.
        users: How many there were in them.
        now: As the rule is set.
        then: As it would be.
    """

    events: int
    days: float
    users: int
    now: TrialRecord
    then: TrialRecord
