"""The canonical bytes of an event: what a Merkle leaf hashes (design §3).

RFC 8785 (JSON Canonicalization Scheme) of the envelope over the *sealed* personal part. Integers
and strings only, so that the scheme's number rules reduce to plain decimal integers; times are
integer microseconds since 1970 UTC. ``transaction_id`` is left out: it says where the row lies in
one PostgreSQL cluster, and a dump restored elsewhere would change it.
"""

import json
import re
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_SAFE_INTEGER = 2**53 - 1

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
"""Parsed JSON; a float is refused where it is met."""


def microseconds(instant: datetime) -> int:
    """Microseconds since 1970-01-01T00:00:00Z, exactly."""
    return (instant - _EPOCH) // _MICROSECOND


def from_microseconds(count: int) -> datetime:
    """The aware instant that many microseconds after 1970-01-01T00:00:00Z."""
    return _EPOCH + timedelta(microseconds=count)


def canonical_event_bytes(  # noqa: PLR0913 (the envelope has this many parts)
    *,
    position: int,
    stream: str,
    version: int,
    event_id: str,
    type_: str,
    schema_version: int,
    occurred_at: datetime,
    subject_id: str | None,
    actor: str,
    correlation_id: str,
    causation_id: str | None,
    data: dict[str, JsonValue],
    sealed_personal: bytes | None,
) -> bytes:
    """The bytes that stand for one stored event in hashes and proofs.

    Args are the stored columns; ``sealed_personal`` is the box as stored, or None.

    Raises:
        ValueError: The data holds a float or an integer that JSON cannot carry exactly.
    """
    return canonical_json(
        {
            "actor": actor,
            "causation_id": causation_id,
            "correlation_id": correlation_id,
            "data": data,
            "event_id": event_id,
            "occurred_at": microseconds(occurred_at),
            "personal": b64encode(sealed_personal).decode("ascii")
            if sealed_personal is not None
            else None,
            "position": position,
            "schema_version": schema_version,
            "stream": stream,
            "subject_id": subject_id,
            "type": type_,
            "version": version,
        }
    )


class StoredEvent(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One event's columns as they are stored, whatever they hold. Fields in canonical order.

    Attributes:
        data: Text of the JSON, as PostgreSQL prints a ``jsonb``.
        occurred_at: Microseconds since 1970 UTC.
        personal: The sealed box.
    """

    actor: str
    causation_id: str | None
    correlation_id: str
    data: bytes
    event_id: str
    occurred_at: int
    personal: bytes | None
    position: int
    schema_version: int
    stream: str
    subject_id: str | None
    type: str
    version: int


def canonical_stored_bytes(event: StoredEvent) -> bytes:
    """The same bytes as ``canonical_event_bytes``, quickly, and for whatever a row may hold.

    No build of ours writes a float, an integer beyond ±(2^53 - 1) or JSON nested deeper than 100
    levels. Where such data is met, someone has tampered with it, and it stands in the bytes as
    PostgreSQL prints it: no event of ours has those bytes, and nobody who hashes rows is stopped.
    """
    return _encode_stored(
        EventFields(
            event.actor,
            event.causation_id,
            event.correlation_id,
            msgspec.Raw(_canonical_text(event.data)),
            event.event_id,
            event.occurred_at,
            event.personal,
            event.position,
            event.schema_version,
            event.stream,
            event.subject_id,
            event.type,
            event.version,
        )
    )


def canonical_json(value: JsonValue) -> bytes:
    r"""RFC 8785 serialisation of JSON without floats.

    >>> canonical_json({"b": 1, "a": ["€", None, True]})
    b'{"a":["\xe2\x82\xac",null,true],"b":1}'

    Raises:
        ValueError: A float, or an integer beyond ±(2^53 - 1).
    """
    return _serialise(value).encode("utf-8")


def _serialise(value: JsonValue) -> str:
    match value:
        case bool() | None | str():
            return json.dumps(value, ensure_ascii=False)
        case int():
            if abs(value) > _MAX_SAFE_INTEGER:
                msg = f"{value} is beyond the integers that JSON carries exactly"
                raise ValueError(msg)
            return str(value)
        case list():
            return "[" + ",".join(map(_serialise, value)) + "]"
        case dict():
            # RFC 8785 §3.2.3: property names sort by their UTF-16 code units.
            names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
            return (
                "{"
                + ",".join(f"{_serialise(name)}:{_serialise(value[name])}" for name in names)
                + "}"
            )
        case float():
            msg = f"canonical JSON has no place for the float {value}"
            raise ValueError(msg)


class EventFields(msgspec.Struct, frozen=True, gc=False):
    """An event as its canonical bytes have it, in their order.

    Attributes:
        data: JSON.
        occurred_at: Microseconds since 1970 UTC.
        personal: The sealed box.
    """

    actor: str
    causation_id: str | None
    correlation_id: str
    data: msgspec.Raw
    event_id: str
    occurred_at: int
    personal: bytes | None
    position: int
    schema_version: int
    stream: str
    subject_id: str | None
    type: str
    version: int


_QUICK_DEPTH = 8
_MAX_DEPTH = 100
_SafeInteger = Annotated[int, msgspec.Meta(ge=-_MAX_SAFE_INTEGER, le=_MAX_SAFE_INTEGER)]


# JSON of a few levels without floats, as a type that msgspec checks while it decodes.
_Shallow: Any = bool | str | _SafeInteger | None  # Any: a type that is made at run time
for _ in range(_QUICK_DEPTH):
    _Shallow = bool | str | _SafeInteger | None | list[_Shallow] | dict[str, _Shallow]

_decode_data = msgspec.json.Decoder(_Shallow).decode
_encode_data = msgspec.json.Encoder(order="deterministic").encode
_encode_stored = msgspec.json.Encoder().encode
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"')


def _canonical_text(text: bytes) -> bytes:
    try:
        encoded = _encode_data(_decode_data(text))
    except msgspec.DecodeError:
        pass
    else:
        # Only beyond ASCII can the order by code points differ from that by UTF-16 units.
        if encoded.isascii():
            return encoded
    if _depth(text) > _MAX_DEPTH:
        return text
    try:
        return canonical_json(json.loads(text))
    except ValueError:
        return text


def _depth(text: bytes) -> int:
    depth = deepest = 0
    for byte in _STRINGS.sub(b"", text):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest
