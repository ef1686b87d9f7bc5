"""The canonical bytes of an event: what a Merkle leaf hashes (design §3).

RFC 8785 (JSON Canonicalization Scheme) of the envelope over the *sealed* personal part. Integers
and strings only, so that the scheme's number rules reduce to plain decimal integers; times are
integer microseconds since 1970 UTC. ``transaction_id`` is left out: it says where the row lies in
one PostgreSQL cluster, and a dump restored elsewhere would change it.
"""

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta

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
            "personal": b64encode(sealed_personal).decode("ascii") if sealed_personal else None,
            "position": position,
            "schema_version": schema_version,
            "stream": stream,
            "subject_id": subject_id,
            "type": type_,
            "version": version,
        }
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
