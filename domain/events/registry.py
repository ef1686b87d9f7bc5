"""The one list of event types: how each is named, versioned, written and read back."""

from collections.abc import Callable
from typing import ClassVar, TypeVar, cast

import msgspec

from domain.json_reading import UNREADABLE


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every event type extends. Subclasses set ``TYPE`` and, past 1, ``SCHEMA_VERSION``.

    Fields hold integers, strings, booleans and lists of them, nothing that identifies a person:
    that travels beside the event (``Personal``) and is sealed.
    """

    TYPE: ClassVar[str]
    SCHEMA_VERSION: ClassVar[int] = 1


Upcaster = Callable[[dict[str, object]], dict[str, object]]
"""Turns the data of schema version n into that of n + 1."""


class UnknownEventError(Exception):
    """An event of a type or schema version that a newer build wrote.

    A reader stops at it, says so, and loses nothing.
    """

    def __init__(self, event_type: str, schema_version: int) -> None:
        """Name the event type and schema version that could not be read."""
        super().__init__(
            f"event type {event_type!r} version {schema_version} is newer than this build knows; "
            "upgrade the reader"
        )
        self.event_type = event_type
        self.schema_version = schema_version


class MalformedEventError(Exception):
    """Stored event data that does not fit its type: written by no build of ours."""


_EventT = TypeVar("_EventT", bound=Event)

_decoders: dict[tuple[str, int], msgspec.json.Decoder[Event]] = {}
_classes: dict[str, type[Event]] = {}
_upcasters: dict[tuple[str, int], Upcaster] = {}


def register(cls: type[_EventT]) -> type[_EventT]:
    """Class decorator: enter an event type into the registry.

    Raises:
        ValueError: Another class has the same type name.
    """
    if cls.TYPE in _classes:
        msg = f"event type {cls.TYPE!r} is registered twice"
        raise ValueError(msg)
    _classes[cls.TYPE] = cls
    _decoders[cls.TYPE, cls.SCHEMA_VERSION] = cast(
        "msgspec.json.Decoder[Event]", msgspec.json.Decoder(cls)
    )
    return cls


def upcaster(event_type: str, from_version: int) -> Callable[[Upcaster], Upcaster]:
    """Decorator: how data of ``from_version`` becomes data of the next version."""

    def enter(function: Upcaster) -> Upcaster:
        _upcasters[event_type, from_version] = function
        return function

    return enter


def registered_types() -> dict[str, type[Event]]:
    """Every event type by name (a copy)."""
    _register_all()
    return dict(_classes)


def _register_all() -> None:
    """Make known what nobody has imported so far."""
    from domain.events import (  # noqa: F401, PLC0415 (they import this module)
        alerts,
        archives,
        detection_policies,
        exports,
        families,
        imports,
        keys,
        reveals,
        sign_in_failures,
        snapshots,
        users,
    )


def decode_event(event_type: str, schema_version: int, data: bytes) -> Event:
    """Read stored event data, upcasting what an older build wrote.

    Args:
        event_type: The stored type name.
        schema_version: The stored schema version.
        data: The stored JSON.

    Raises:
        UnknownEventError: This build does not know that type or version.
        MalformedEventError: The data does not fit the type.
    """
    decoder = _decoders.get((event_type, schema_version))
    try:
        if decoder is not None:
            return decoder.decode(data)
        return _upcast(event_type, schema_version, data)
    except UNREADABLE as error:
        msg = f"data of a {event_type!r} event does not fit version {schema_version}: {error}"
        raise MalformedEventError(msg) from error


def _upcast(event_type: str, schema_version: int, data: bytes) -> Event:
    cls = _classes.get(event_type)
    if cls is None:
        _register_all()
        cls = _classes.get(event_type)
        if cls is not None:
            return decode_event(event_type, schema_version, data)
    if cls is None or not 1 <= schema_version < cls.SCHEMA_VERSION:
        raise UnknownEventError(event_type, schema_version)
    fields: dict[str, object] = msgspec.json.decode(data, type=dict[str, object])
    for version in range(schema_version, cls.SCHEMA_VERSION):
        fields = _upcasters[event_type, version](fields)
    return msgspec.convert(fields, cls)
