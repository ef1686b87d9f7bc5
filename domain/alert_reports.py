"""What a user says of a sign-in of theirs: that it was somebody else."""

from hashlib import sha256

from domain.client import ClientContext
from domain.detection import Outcome, Response, Severity
from domain.events.alerts import AlertAnswered, AlertRaised, WeighedFact
from domain.events.canonical import microseconds
from domain.events.envelope import NewEvent
from domain.events.personal import Personal
from domain.family import Family, Session
from domain.ids import AlertId, EventId, uuid_text

REPORTED = "reported-by-user"
"""Stands in an alert where others have the name of a rule."""
_VERSION = 1
_FACT = WeighedFact("reported_by_user", 100)


def report_id(family: Family) -> AlertId:
    """The alert of a family that was reported: one, however often it is reported."""
    digest = bytearray(sha256(f"{REPORTED}|{family.family_id}".encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80  # RFC 9562: version 8, made from a hash
    digest[8] = digest[8] & 0x3F | 0x80
    return AlertId(uuid_text(bytes(digest)))


def report_of(
    family: Family, session: Session, began: EventId, policy_version: int, outcome: Outcome
) -> tuple[NewEvent, ...]:
    """The events of an alert about a sign-in that its user does not know.

    Args:
        family: The session family.
        session: The session in it that was not theirs.
        began: The event that it began with.
        policy_version: Of the detection policy in force.
        outcome: What became of the revocation that came with the report.
    """
    raised = AlertRaised(
        user_id=family.user_id,
        rule=REPORTED,
        rule_version=_VERSION,
        policy_version=policy_version,
        severity=Severity.HIGH,
        response=Response.REVOKE_FAMILY,
        family_id=family.family_id,
        trigger_id=began,
        happened_at_us=microseconds(session.started_at),
        facts=[_FACT],
    )
    client = session.client if isinstance(session.client, ClientContext) else None
    ended = 1 if outcome is Outcome.DONE else 0
    answered = AlertAnswered(response=Response.REVOKE_FAMILY, outcome=outcome, families=ended)
    return NewEvent(raised, Personal(client=client)), NewEvent(answered)
