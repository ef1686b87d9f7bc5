"""Server-Sent Events (WHATWG HTML §9.2): an answer that goes on for as long as its reader reads."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_log = logging.getLogger(__name__)

SEND_WITHIN_S = 10.0
"""How long a reader may take to take a message, once everything in between is full."""


def message(
    *, event: str | None = None, data: bytes | None = None, cursor: str | None = None
) -> bytes:
    """One message; without data it only moves the reader's place (and keeps the line open).

    Args:
        event: Its kind.
        data: One line of text.
        cursor: What the reader sends as ``Last-Event-ID`` to go on behind it.
    """
    lines = []
    if cursor is not None:
        lines.append(b"id: " + cursor.encode("ascii"))
    if event is not None:
        lines.append(b"event: " + event.encode("ascii"))
    if data is not None:
        lines.append(b"data: " + data)
    return b"\n".join(lines) + b"\n\n"


Opening = Callable[[], AbstractAsyncContextManager[AsyncGenerator[bytes, None]]]
"""Makes the messages ready, and tidies up after them."""


class EventStream(Response):
    """Sends messages until there are no more, the reader goes away, or does not read."""

    media_type = "text/event-stream"

    def __init__(self, opening: Opening, send_within_s: float = SEND_WITHIN_S) -> None:
        """Answer with the messages that this gives.

        Whatever it raises before it gives them is answered as any other fault is.
        """
        self._opening = opening
        self._send_within_s = send_within_s
        self.status_code = 200
        self.background = None
        self.init_headers(
            {
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",  # nginx would gather messages before it passes them on
            }
        )

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send them; to a reader who does not read, no longer than that."""
        async with self._opening() as messages, aclosing(messages):
            await send(
                {"type": "http.response.start", "status": 200, "headers": self.raw_headers},
            )
            sending = asyncio.create_task(self._send_all(messages, send))
            leaving = asyncio.create_task(_leaves(receive))
            try:
                await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                sending.cancel()
                leaving.cancel()
                await asyncio.wait({sending, leaving})
        if not sending.cancelled():
            sending.result()

    async def _send_all(self, messages: AsyncIterator[bytes], send: Send) -> None:
        async for each in messages:
            try:
                async with asyncio.timeout(self._send_within_s):
                    await send({"type": "http.response.body", "body": each, "more_body": True})
            except TimeoutError:
                _log.warning("a reader of events does not read: the connection is cut")
                return  # without the end that a whole answer has, so that the reader knows
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _leaves(receive: Receive) -> None:
    """Wait until the reader has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass
