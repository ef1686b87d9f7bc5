"""Folding the log into states, one stream at a time, with the domain's own ``evolve``.

Personal parts stay sealed while a stream is folded: only what the last state still holds is opened,
by ``open_family``, ``open_user`` and ``open_alert``, so that a family of 50,000 refreshes costs one
decryption.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import dropwhile, groupby
from operator import itemgetter
from typing import Any, Generic, TypeVar, get_args

from msgspec.structs import replace

from domain.alert import Alert, evolve_alert
from domain.events.alerts import AlertEvent
from domain.events.families import FamilyEvent
from domain.events.personal import Personal, PersonalPart, Sealed
from domain.events.registry import Event, MalformedEventError, decode_event
from domain.events.users import UserEvent
from domain.family import Family, ImpossibleEventError, Session, evolve
from domain.ids import Stream, parse_uuid
from domain.user import User, evolve_user

StoredEvent = tuple[Stream, int, str, int, datetime, bytes, str, bytes | None]
"""What a fold needs of an event: stream, version, type, schema version, time, data (JSON), event
id, sealed personal part. A plain tuple, as the driver makes it: there are a million of them."""

Opener = Callable[[Sealed], Personal]
"""Opens what was sealed for one subject."""

StateT = TypeVar("StateT", Family, User, Alert)


@dataclass(frozen=True, slots=True)
class FoldRules(Generic[StateT]):
    """What makes one kind of stream a state.

    Attributes:
        prefix: How the names of its streams begin; the rest is the state's id.
        event_types: What may happen in such a stream.
        evolve: The domain's own.
    """

    prefix: str
    event_types: frozenset[type[Event]]
    # Any: an id and an event of the kind; a fold checks ``event_types`` before it calls.
    evolve: Callable[[StateT | None, Any, Any, PersonalPart, datetime], StateT]


FAMILIES: FoldRules[Family] = FoldRules("family-", frozenset(get_args(FamilyEvent)), evolve)
USERS: FoldRules[User] = FoldRules("user-", frozenset(get_args(UserEvent)), evolve_user)
ALERTS: FoldRules[Alert] = FoldRules("alert-", frozenset(get_args(AlertEvent)), evolve_alert)


@dataclass(frozen=True, slots=True)
class DamagedStream:
    """A stream that no history of ours could have left: it has no state.

    Attributes:
        stream: Its name.
        fault: What is wrong, at which version.
    """

    stream: Stream
    fault: str


class Fold(Generic[StateT]):
    """Folds events that come in pieces; a stream may go on from one piece to the next.

    The events of a stream must lie together, in version order. The order of streams is free.
    """

    def __init__(self, rules: FoldRules[StateT]) -> None:
        """Fold streams of one kind."""
        self._rules: FoldRules[StateT] = rules
        self._stream: Stream | None = None
        self._owner = ""
        self._state: StateT | None = None
        self._version = self._known_version = 0
        self._fault: str | None = None

    def feed(
        self, events: Iterable[StoredEvent], known: Mapping[str, StateT] | None = None
    ) -> Iterator[StateT | DamagedStream]:
        """Fold a piece of the log.

        Args:
            events: They follow those of the piece before.
            known: States by id, of streams whose first events were folded another time; these are
                passed over if they come again.

        Yields:
            The state of each stream that ended within the piece, or what is wrong with it.

        Raises:
            UnknownEventError: A newer build wrote one of them.
        """
        for stream, group in groupby(events, itemgetter(0)):
            if stream != self._stream:
                yield from self.finish()
                self._begin(stream, known or {})
            if self._fault is None:
                self._fold(self._unknown(group))

    def finish(self) -> Iterator[StateT | DamagedStream]:
        """The state of the stream that was last, or what is wrong with it."""
        if self._stream is not None:
            if self._fault is not None or self._state is None:
                yield DamagedStream(self._stream, self._fault or "it has no events")
            else:
                yield self._state
        self._stream = None

    def _begin(self, stream: Stream, known: Mapping[str, StateT]) -> None:
        self._stream = stream
        self._owner = stream.removeprefix(self._rules.prefix)
        self._state = known.get(self._owner)
        self._version = self._known_version = self._state.version if self._state else 0
        well_named = stream.startswith(self._rules.prefix) and parse_uuid(self._owner)
        self._fault = None if well_named == self._owner else "its name holds no id"

    def _unknown(self, events: Iterable[StoredEvent]) -> Iterable[StoredEvent]:
        known = self._known_version
        return dropwhile(lambda event: event[1] <= known, events) if known else events

    def _fold(self, events: Iterable[StoredEvent]) -> None:
        """Fold events of the current stream: the loop that a rebuild spends its time in."""
        evolve_one, event_types = self._rules.evolve, self._rules.event_types
        owner, state, version = self._owner, self._state, self._version
        try:
            for _, stored_version, type_, schema_version, at, data, event_id, box in events:
                version += 1
                if stored_version != version:
                    self._fault = f"version {stored_version} where version {version} is due"
                    break
                event = decode_event(type_, schema_version, data)
                if type(event) not in event_types:
                    self._fault = f"version {version}: {type_} does not belong there"
                    break
                personal = None if box is None else Sealed(event_id, box)
                state = evolve_one(state, owner, event, personal, at)
        except (ImpossibleEventError, MalformedEventError, OverflowError) as error:
            self._fault = f"version {version}: {error}"
        self._state, self._version = state, version


def nothing_left(_: Sealed) -> Personal:
    """The opener of an erased subject: their data key is gone, and with it what was sealed."""
    return Personal()


def open_family(family: Family, opener: Opener) -> Family:
    """The family with what its sessions hold in clear.

    Raises:
        Exception: Whatever the opener raises.
    """
    return replace(
        family, sessions=tuple(_open_session(session, opener) for session in family.sessions)
    )


def open_user(user: User, opener: Opener) -> User:
    """The user with their name in clear.

    Raises:
        Exception: Whatever the opener raises.
    """
    username, subject = user.username, user.external_subject
    return replace(
        user,
        username=opener(username).username if isinstance(username, Sealed) else username,
        external_subject=(
            opener(subject).external_subject if isinstance(subject, Sealed) else subject
        ),
    )


def open_alert(alert: Alert, opener: Opener) -> Alert:
    """The alert with its evidence in clear.

    Raises:
        Exception: Whatever the opener raises.
    """
    client, texts = alert.client, alert.fact_texts
    client_part = opener(client) if isinstance(client, Sealed) else None
    texts_part = client_part if texts == client else None  # they come in one box
    if isinstance(texts, Sealed) and texts_part is None:
        texts_part = opener(texts)
    return replace(
        alert,
        client=client_part.client if client_part is not None else client,
        fact_texts=texts_part.facts if texts_part is not None else texts,
    )


def _open_session(session: Session, opener: Opener) -> Session:
    client, name = session.client, session.device_name
    client_part = opener(client) if isinstance(client, Sealed) else None
    name_part = client_part  # at sign-in both came in one box
    if isinstance(name, Sealed) and name != client:
        name_part = opener(name)
    return replace(
        session,
        client=client_part.client if client_part is not None else client,
        device_name=name_part.device_name if isinstance(name, Sealed) and name_part else name,
    )
