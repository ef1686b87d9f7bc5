"""The live stream of alerts: each that something happens to, as it happens."""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import Annotated

from fastapi import APIRouter, Header, Request

from api.alert_schemas import AlertModel
from api.alert_views import alert_fields
from api.event_stream import EventStream, message
from api.fast import PROBLEMS
from api.ports import Services
from api.problems import ProblemError, ProblemKind
from api.security import READERS, Caller, ServicesIn, StaffReader, is_still
from domain.alert_lists import AlertChange
from domain.ids import UserId
from domain.ports import StoreUnavailableError

router = APIRouter(prefix="/v1/alerts", tags=["alerts"])

MAX_STREAMS = 64
"""At a time, in one process."""
MAX_STREAMS_OF_ONE = 8
"""Of one member of staff: their windows, and not everybody's places."""
_LOOK_AGAIN_S = 1.0
"""How often it is looked whether the reader's session lives; before every message, too."""
_SILENCE_S = 15.0
"""The longest without a message, so that nobody in between takes the line for dead."""
_RETRY_LATER = {"Retry-After": "30"}
_BEGINNING = b"retry: 2000\n\n"


class ChangedAlert(AlertModel):
    """An alert that something happened to, as it is by now."""

    changes: list[str]


class StreamPlaces:
    """How many streams there are, and whose."""

    def __init__(self) -> None:
        """None yet."""
        self._of: Counter[UserId] = Counter()

    @contextmanager
    def taken(self, user_id: UserId) -> Iterator[None]:
        """A place for as long as the block lasts.

        Raises:
            ProblemError: There is none left.
        """
        if self._of.total() >= MAX_STREAMS or self._of[user_id] >= MAX_STREAMS_OF_ONE:
            raise ProblemError(
                ProblemKind.RATE_LIMITED, "too many streams are open", headers=_RETRY_LATER
            )
        self._of[user_id] += 1
        try:
            yield
        finally:
            self._of[user_id] -= 1
            self._of += Counter()  # leaves out those who have none


@router.get(
    "/stream",
    status_code=200,
    response_class=EventStream,
    responses={
        **PROBLEMS(401, 403, 429),
        200: {
            "description": "Messages of the kinds `alert` (an alert as JSON) and `reset` (there "
            "is a gap: read the list again)",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
    },
)
async def stream_alerts(
    request: Request,
    reader: StaffReader,
    services: ServicesIn,
    last_event_id: Annotated[
        str | None, Header(description="`id` of the last message that was received")
    ] = None,
) -> EventStream:
    """Alerts that something happens to, as Server-Sent Events. Roles: analyst, auditor, admin.

    With `Last-Event-ID` it goes on behind that message, without a gap. It ends when the session of
    the access token does.
    """
    return alert_messages(services, request.app.state.stream_places, reader, last_event_id)


def alert_messages(
    services: Services, places: StreamPlaces, reader: Caller, last_event_id: str | None
) -> EventStream:
    """The stream for a reader who was let in, from behind the message that they had last."""

    @asynccontextmanager
    async def opening() -> AsyncIterator[AsyncGenerator[bytes, None]]:
        feed = services.alert_feed
        with places.taken(reader.user.user_id), feed.listening():
            cursor, without_gap = await feed.place(last_event_id)
            yield _messages(reader, services, cursor, without_gap=without_gap)

    return EventStream(opening)


async def _messages(
    reader: Caller, services: Services, cursor: str, *, without_gap: bool
) -> AsyncGenerator[bytes, None]:
    """Messages until the reader's session ends, the service stops, or the database is away."""
    feed = services.alert_feed
    yield _BEGINNING + (b"" if without_gap else message(event="reset", data=b"{}", cursor=cursor))
    silent_since = looked_at = monotonic()
    while not feed.closed:
        try:
            found = await feed.after(cursor, _LOOK_AGAIN_S)
            if monotonic() - looked_at >= _LOOK_AGAIN_S or found.changes:
                if not await is_still(services, reader, *READERS):
                    return
                looked_at = monotonic()
        except StoreUnavailableError:
            return  # the reader comes back, with the place of the last message
        for change in found.changes:
            yield _message_of(change, services)
        cursor = found.cursor
        if found.changes:
            silent_since = monotonic()
        elif monotonic() - silent_since >= _SILENCE_S:
            yield message(cursor=cursor)
            silent_since = monotonic()


def _message_of(change: AlertChange, services: Services) -> bytes:
    changed = ChangedAlert(
        **alert_fields(change.alert, services.devices), changes=list(change.types)
    )
    return message(event="alert", data=changed.model_dump_json().encode(), cursor=change.cursor)
