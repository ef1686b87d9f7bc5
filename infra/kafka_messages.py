"""What an event looks like on the topic: one JSON object, the sealed form of the log's row.

The relay passes rows on as they are stored: it decodes no data and opens no personal part, so it
holds no key and does not stop at an event of a newer build. The consumer reads a message back into
the very ``RecordedEvent`` that the log's own tail hands out.

Fields may be added. A reader ignores those that it does not know.
"""

from typing import Any

import msgspec

from domain.events.canonical import from_microseconds, microseconds
from domain.events.envelope import RecordedEvent
from domain.json_reading import UNREADABLE
from infra.tail import Place, recorded


class MalformedMessageError(Exception):
    """Bytes on the topic that no relay of ours wrote; the message says what is wrong with them."""


class Message(msgspec.Struct, frozen=True):
    """One message for the topic.

    Attributes:
        place: The event's place in the log's order.
        key: What decides the partition: the subject's id, or the stream of an event without one.
        value: The event.
    """

    place: Place
    key: bytes
    value: bytes


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A message's fields, in the order in which they are written; the event's own not read yet."""

    position: int
    transaction_id: int
    stream: str
    version: int
    event_id: str
    type: str
    schema_version: int
    occurred_at_us: int
    subject_id: str | None
    actor: str
    correlation_id: str
    causation_id: str | None
    data: msgspec.Raw
    personal: bytes | None  # base64 in JSON

    @property
    def place(self) -> Place:
        """The event's place in the log's order."""
        return Place(self.transaction_id, self.position)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Envelope).decode


def message_of(record: tuple[Any, ...]) -> Message:  # Any: a row as it came
    """The message for a row of the log, as ``read_tail_records`` hands it out."""
    (
        position, transaction_id, stream, version, event_id, type_, schema_version, occurred_at,
        subject_id, actor, correlation_id, causation_id, data, personal,
    ) = record  # fmt: skip
    envelope = Envelope(
        position=position,
        transaction_id=transaction_id,
        stream=stream,
        version=version,
        event_id=event_id,
        type=type_,
        schema_version=schema_version,
        occurred_at_us=microseconds(occurred_at),
        subject_id=subject_id,
        actor=actor,
        correlation_id=correlation_id,
        causation_id=causation_id,
        data=msgspec.Raw(data),
        personal=personal,
    )
    return Message(
        place=Place(transaction_id, position),
        key=(subject_id or stream).encode(),
        value=_encode(envelope),
    )


def envelope_of(value: bytes) -> Envelope:
    """The fields of a message, also of one with an event that this build does not know.

    Raises:
        MalformedMessageError: It is no message of ours.
    """
    try:
        return _decode(value)
    except UNREADABLE as error:
        msg = f"a message on the topic is none of ours: {error}"
        raise MalformedMessageError(msg) from error


def event_of(envelope: Envelope) -> RecordedEvent:
    """The event that a message carries, its personal part still sealed.

    Raises:
        UnknownEventError: A newer build wrote it.
        MalformedEventError: Its data does not fit its type.
    """
    return recorded(
        (
            envelope.position,
            envelope.transaction_id,
            envelope.stream,
            envelope.version,
            envelope.event_id,
            envelope.type,
            envelope.schema_version,
            from_microseconds(envelope.occurred_at_us),
            envelope.subject_id,
            envelope.actor,
            envelope.correlation_id,
            envelope.causation_id,
            bytes(envelope.data),
            envelope.personal,
        )
    )
