"""Request and answer bodies about alerts, as pydantic models."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from api.schemas import Device
from domain.alert import AlertStatus
from domain.detection import Outcome, Response, Severity, Verdict
from domain.texts import MAX_COMMENT_CODE_POINTS

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]", re.ASCII)

CommentText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_COMMENT_CODE_POINTS)]


def _told_in_words(value: object) -> object:
    """Pydantic would take a number for the seconds since 1970."""
    if not isinstance(value, str) or not _DATE.match(value):
        msg = "a time is written as in RFC 3339"
        raise ValueError(msg)
    return value


Instant = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_told_in_words)]
"""A time with its offset, as RFC 3339 writes it."""


class StaffBody(BaseModel):
    """A request body of a member of staff: what it does not know, it refuses."""

    model_config = ConfigDict(extra="forbid", strict=True)


class AssignBody(StaffBody):
    """Whose an alert is to be."""

    assignee: str | None = Field(description="User id of an analyst or admin; null for nobody")


class CommentBody(StaffBody):
    """Something to note about an alert."""

    comment: CommentText


class ResolveBody(StaffBody):
    """What an alert was."""

    verdict: Annotated[Verdict, Field(strict=False)]
    comment: CommentText | None = None


class RevokeBody(StaffBody):
    """What to end because of an alert."""

    what: Literal["session", "family", "all"]
    session_id: str | None = Field(None, description="Which session, where the family has several")


class FactModel(BaseModel):
    """One thing that spoke for an alert."""

    code: str
    weight: int = Field(description="Points, of about a hundred that make certainty")
    text: str | None = Field(description="What was seen, and what was to be expected")


class AnswerModel(BaseModel):
    """What came of one kind of response."""

    response: Response
    outcome: Outcome
    families: int = Field(description="How many session families it had an effect on, in all")


class AlertModel(BaseModel):
    """An alert."""

    id: str
    rule: str
    rule_version: int
    policy_version: int = Field(description="Version of the detection policy when it was raised")
    severity: Severity
    response: Response
    status: AlertStatus
    user_id: str | None
    family_id: str | None
    assignee: str | None
    verdict: Verdict | None
    count: int = Field(description="How many occurrences it stands for")
    raised_at: datetime
    resolved_at: datetime | None
    first_at: datetime
    last_at: datetime
    score: float | None = Field(description="Risk score, where the rule has one")
    facts: list[FactModel]
    answers: list[AnswerModel]
    client: Device | None = Field(description="The client that was seen; null once erased")


class AlertList(BaseModel):
    """A page of alerts: the worst first, and of those that are equally bad, the latest."""

    alerts: list[AlertModel]
    next: str | None = Field(description="Pass as `after` for the next page")


class HistoryModel(BaseModel):
    """One event of a history."""

    version: int
    event_id: str
    type: str
    at: datetime
    actor: str = Field(description="`kind` or `kind:name`; staff by user id")
    correlation_id: str
    # Any: events have whatever fields their types have.
    details: dict[str, Any] = Field(description="The fields that the event's type is known for")
    comment: str | None = None
    client: Device | None = None
    device_name: str | None = None


class Timeline(BaseModel):
    """The end of a history."""

    events: list[HistoryModel]
    earlier: int = Field(description="How many events came before these")


class AlertUser(BaseModel):
    """The user that an alert is about."""

    id: str
    name: str | None = Field(description="User name or external subject; null once erased")
    disabled: bool


class AlertDetail(AlertModel):
    """An alert with all that is known of it."""

    title: str | None = Field(description="The rule's title; null for a rule of another build")
    looks_for: str | None
    user: AlertUser | None
    history: Timeline = Field(description="What became of the alert, and through whom")
    family_history: Timeline | None = Field(description="What its session family went through")


class Revoked(BaseModel):
    """What a revocation came to."""

    ended: int = Field(description="How many session families, or sessions, it ended")
    alert: AlertModel
