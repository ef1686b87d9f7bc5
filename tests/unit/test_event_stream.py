"""Server-Sent Events: their form, and the ways in which a stream ends."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from api.alert_cursors import cursor_of, place_of
from api.event_stream import EventStream, message
from api.problems import ProblemError
from domain.alert_lists import AlertPlace
from tests.alerts import ALERT_ID, NOW

Sent = dict[str, Any]


class Line:
    """The line to a reader who takes so many messages, and leaves when told to."""

    def __init__(self, takes: int = 100) -> None:
        self.sent: list[Sent] = []
        self.takes = takes
        self.left = asyncio.Event()
        self.began = asyncio.Event()

    async def receive(self) -> Sent:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, sent: Any) -> None:  # noqa: ANN401 (an ASGI message)
        if len(self.sent) >= self.takes:
            await asyncio.Event().wait()
        self.sent.append(sent)
        if self.bodies:
            self.began.set()

    @property
    def bodies(self) -> list[bytes]:
        return [each["body"] for each in self.sent if each["type"] == "http.response.body"]


class Source:
    """Messages, and whether they were tidied up after."""

    def __init__(self, *messages: bytes, endless: bool = False) -> None:
        self.messages, self.endless = messages, endless
        self.tidied = False

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[AsyncGenerator[bytes, None]]:
        try:
            yield self._each()
        finally:
            self.tidied = True

    async def _each(self) -> AsyncGenerator[bytes, None]:
        for each in self.messages:
            yield each
        if self.endless:
            await asyncio.Event().wait()


async def run(stream: EventStream, line: Line) -> None:
    async with asyncio.timeout(5):
        await stream({"type": "http"}, line.receive, line.send)


async def test_messages_are_sent_and_the_answer_ends_after_the_last() -> None:
    source, line = Source(b"one", b"two"), Line()

    await run(EventStream(source.opening), line)

    assert line.sent[0]["status"] == 200
    headers = dict(line.sent[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert line.bodies == [b"one", b"two", b""]
    assert [each.get("more_body") for each in line.sent[1:]] == [True, True, False]
    assert source.tidied


async def test_a_reader_who_leaves_ends_the_stream() -> None:
    source, line = Source(b"one", endless=True), Line()
    line.left.set()

    await run(EventStream(source.opening), line)

    assert source.tidied


async def test_a_reader_who_does_not_read_is_cut_off() -> None:
    """Without the end that a whole answer has: so the reader knows that there was more."""
    source, line = Source(b"one", b"two", b"three"), Line(takes=2)

    await run(EventStream(source.opening, send_within_s=0.01), line)

    assert line.bodies == [b"one"]
    assert source.tidied


async def test_a_cancelled_stream_tidies_up() -> None:
    source, line = Source(b"one", endless=True), Line()
    running = asyncio.create_task(EventStream(source.opening)({}, line.receive, line.send))
    async with asyncio.timeout(5):
        await line.began.wait()

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert source.tidied


async def test_a_fault_of_the_source_is_raised() -> None:
    @asynccontextmanager
    async def opening() -> AsyncIterator[AsyncGenerator[bytes, None]]:
        async def broken() -> AsyncGenerator[bytes, None]:
            yield b"one"
            msg = "broken"
            raise RuntimeError(msg)

        yield broken()

    line = Line()
    with pytest.raises(RuntimeError, match="broken"):
        await run(EventStream(opening), line)

    assert line.bodies == [b"one"]


def test_a_message_has_the_form_of_the_standard() -> None:
    assert message(event="alert", data=b"{}", cursor="7-1") == (
        b"id: 7-1\nevent: alert\ndata: {}\n\n"
    )
    assert message(cursor="7-1") == b"id: 7-1\n\n"


# -------------------------------------------------------------------- cursors of lists


def test_a_cursor_stands_for_a_place() -> None:
    place = AlertPlace(3, NOW, ALERT_ID)

    assert place_of(cursor_of(place)) == place


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "é",
        "a",
        "e30",
        cursor_of(AlertPlace(9, NOW, ALERT_ID)),
        cursor_of(AlertPlace(-1, NOW, ALERT_ID)),
        cursor_of(AlertPlace(1, NOW.replace(tzinfo=None), ALERT_ID)),
        cursor_of(AlertPlace(1, NOW, "1")),  # type: ignore[arg-type]  # that is the point
    ],
)
def test_a_cursor_that_we_did_not_give_out_is_refused(cursor: str) -> None:
    with pytest.raises(ProblemError) as refused:
        place_of(cursor)

    assert refused.value.kind.status == 422
