"""Reading the live stream of alerts."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.e2e.clients import Device

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the stream."""

    event: str | None
    data: Json | None
    cursor: str | None

    @property
    def alert_id(self) -> str:
        assert self.event == "alert"
        assert self.data is not None
        return str(self.data["id"])


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream that is being read."""

    answer: httpx.Response
    lines: Iterator[str]

    def message(self) -> Message:
        """The next one that says something."""
        while True:
            fields: dict[str, str] = {}
            while line := next(self.lines):
                name, _, value = line.partition(": ")
                fields[name] = value
            if "event" in fields or "id" in fields:
                data = fields.get("data")
                return Message(
                    fields.get("event"),
                    None if data is None else json.loads(data),
                    fields.get("id"),
                )

    def begin(self) -> "Stream":
        """Wait for the beginning: the stream listens from then on."""
        assert next(self.lines) == "retry: 2000"
        assert next(self.lines) == ""
        return self


@contextmanager
def stream_at(url: str, headers: Mapping[bytes, bytes]) -> Iterator[Stream]:
    """The stream at an address."""
    with httpx.stream("GET", url, headers=dict(headers), timeout=20) as answer:
        yield Stream(answer, answer.iter_lines())


@contextmanager
def stream_of(member: Device, last_event_id: str | None = None) -> Iterator[Stream]:
    """The API's stream, as a member of staff reads it."""
    headers = {b"Authorization": f"Bearer {member.access_token}".encode()}
    if last_event_id is not None:
        headers[b"Last-Event-ID"] = last_event_id.encode()
    with stream_at(member.url + "/v1/alerts/stream", headers) as stream:
        yield stream
