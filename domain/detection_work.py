"""What passes between the detector and its store: states to keep, alerts to change, reactions."""

from collections.abc import Sequence
from enum import IntEnum

import msgspec

from domain.detection import Outcome, Response
from domain.events.alerts import AlertEvent
from domain.events.personal import Personal
from domain.ids import AlertId, CorrelationId, EventId, FamilyId, UserId

StateKey = tuple[int, str]
"""A scope's number and a key within it."""


class Stage(IntEnum):
    """Which half of the work an event is read for."""

    CROWD = 1
    """Sign-ins, failures and alerts of everybody, in the log's order, through one owner."""
    USERS = 2
    """Each user's events in order, shared among owners by user."""


class StoredState(msgspec.Struct, frozen=True):
    """A state to keep.

    Attributes:
        key: Its scope and key.
        subject_id: The user whose erasure takes it along; None where it is about no one user.
        state: Encoded; None drops it.
    """

    key: StateKey
    subject_id: UserId | None
    state: bytes | None


class AlertChange(msgspec.Struct, frozen=True, kw_only=True):
    """Events for one alert.

    Attributes:
        alert_id: The alert.
        subject_id: The user it is about; None for a crowd's.
        actor: Name of the rule.
        events: In order, each with its personal part.
        causation_id: The event that led to them.
        correlation_id: Of the request that that event came from.
    """

    alert_id: AlertId
    subject_id: UserId | None
    actor: str
    events: Sequence[tuple[AlertEvent, Personal | None]]
    causation_id: EventId
    correlation_id: CorrelationId


class Reaction(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be done about a finding.

    Attributes:
        rule: The rule that asks for it: the actor of what follows.
        response: What; one that acts.
        user_id: Whose families.
        family_id: Which family the finding is about.
        causation_id: The event that led to it.
        correlation_id: Of the request that that event came from.
    """

    rule: str
    response: Response
    user_id: UserId
    family_id: FamilyId | None
    causation_id: EventId
    correlation_id: CorrelationId


class Reacted(msgspec.Struct, frozen=True):
    """What became of a reaction."""

    outcome: Outcome
    families: int
