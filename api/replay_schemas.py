"""Request and answer bodies of time travel, as pydantic models."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from api.alert_schemas import StaffBody
from domain.texts import MAX_COMMENT_CODE_POINTS
from projections.session_views import SessionStatus
from projections.state_diffs import ChangeKind


class PastSession(BaseModel):
    """A session as it stood."""

    session_id: str
    family_id: str
    user_id: str
    status: SessionStatus
    client_id: str
    auth_methods: list[str]
    delivery: str
    persistent: bool
    generation: int = Field(description="How many refresh tokens it had had")
    family_version: int = Field(description="How many events its family had had")
    started_at: datetime
    last_seen_at: datetime
    expires_at: datetime = Field(description="When it was to end if nothing more came")
    ended_at: datetime | None
    end_reason: str | None


class PastSessionList(BaseModel):
    """A page of sessions as they stood, by user. It may hold fewer than asked for."""

    at: datetime = Field(description="The instant that expiry is judged by")
    sessions: list[PastSession]
    next: str | None = Field(description="Pass as `after` for the next page")
    damaged: list[str] = Field(description="Streams that cannot be folded, and why")


class FieldChangeModel(BaseModel):
    """One field that is different. Both values are null where it is personal."""

    name: str
    before: Any = None  # Any: whatever the field holds
    after: Any = None


class ChangeModel(BaseModel):
    """Something that is different between two moments."""

    kind: ChangeKind
    what: str = Field(description="`session`, `user` or `alert`")
    id: str
    user_id: str
    fields: list[FieldChangeModel]


class ChangeList(BaseModel):
    """A page of changes, by user. It may hold fewer than asked for."""

    changes: list[ChangeModel]
    next: str | None = Field(description="Pass as `after` for the next page")
    damaged: list[str] = Field(description="Streams that cannot be folded, and why")


class AuditEntryModel(BaseModel):
    """One event of the log."""

    position: int
    stream: str
    version: int
    event_id: str
    type: str
    at: datetime
    subject_id: str | None
    actor: str = Field(description="`kind` or `kind:name`; staff by user id")
    correlation_id: str
    causation_id: str | None
    # Any: events have whatever fields their types have.
    data: dict[str, Any] | None = Field(
        description="Without hashes and salts; null where a newer build wrote the event"
    )
    sealed: bool = Field(description="Whether it has a personal part")
    personal: dict[str, Any] | None = Field(
        description="That part, where it was revealed; null also once its subject was erased"
    )


class AuditHistory(BaseModel):
    """A page of a history, in the log's order."""

    events: list[AuditEntryModel]
    next: str | None = Field(description="Pass as `after` for the next page")
    archived: list[str] = Field(description="Files that may hold earlier events of it")


class RevealBody(StaffBody):
    """Open a page of a history: of exactly one of the four, and why."""

    user: str | None = Field(None, description="User id")
    session: str | None = Field(None, description="Session id")
    family: str | None = Field(None, description="Session family id")
    alert: str | None = Field(None, description="Alert id")
    reason: Annotated[str, StringConstraints(min_length=1, max_length=MAX_COMMENT_CODE_POINTS)]
    limit: Annotated[int, Field(ge=1, le=200)] = 100
    after: str | None = Field(None, description="`next` of the page before")
