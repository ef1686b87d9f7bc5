"""What tests see of a service's database, and the one thing that they do to it: move its clock."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import psycopg
from psycopg.rows import class_row, dict_row

Json = dict[str, Any]
"""The data of an event. Any: of whatever shape its type has."""

_ResultT = TypeVar("_ResultT")


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One row of the event log."""

    position: int
    transaction_id: str
    stream: str
    version: int
    type: str
    actor: str
    subject_id: str | None
    correlation_id: str
    occurred_at: datetime
    data: Json
    personal: bytes | None


_COLUMNS = (
    "position, transaction_id::text, stream, version, type, actor, subject_id::text,"
    " correlation_id::text, occurred_at, data, personal"
)


@dataclass(frozen=True, slots=True)
class EventLog:
    """The log of one database, read as it lies there."""

    conninfo: str

    def of_family(self, family_id: str) -> list[LoggedEvent]:
        """The events of a session family, in order."""
        return self._of_stream("family-" + family_id)

    def of_user(self, user_id: str) -> list[LoggedEvent]:
        """The events of a user's own stream, in order."""
        return self._of_stream("user-" + user_id)

    def of_key(self, key_id: str) -> list[LoggedEvent]:
        """The events of a signing key or service key, in order."""
        return self._of_stream("key-" + key_id)

    def of_type(self, event_type: str) -> list[LoggedEvent]:
        """Every event of a type, in order of insertion."""
        return self._events("type = %s ORDER BY position", event_type)

    def after(self, position: int) -> list[LoggedEvent]:
        """Every event behind a position."""
        return self._events("position > %s ORDER BY position", position)

    def end(self) -> int:
        """The position of the newest event."""
        with psycopg.connect(self.conninfo) as connection:
            row = connection.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()
        assert row is not None
        newest: int = row[0]
        return newest

    def session(self, session_id: str) -> Json:
        """The row of a session: the fold of its events."""
        with psycopg.connect(self.conninfo, row_factory=dict_row) as connection:
            query = "SELECT * FROM sessions WHERE session_id = %s"
            row = connection.execute(query, (session_id,)).fetchone()
        assert row is not None, f"there is no session {session_id}"
        return row

    def _of_stream(self, stream: str) -> list[LoggedEvent]:
        return self._events("stream = %s ORDER BY version", stream)

    def _events(self, condition: str, argument: object) -> list[LoggedEvent]:
        with psycopg.connect(self.conninfo) as connection:
            cursor = connection.cursor(row_factory=class_row(LoggedEvent))
            query = f"SELECT {_COLUMNS} FROM events WHERE {condition}"
            return cursor.execute(query, (argument,)).fetchall()


def types(events: list[LoggedEvent]) -> list[str]:
    """What happened, in order."""
    return [event.type for event in events]


def wait_for(observe: Callable[[], _ResultT], within_s: float = 15) -> _ResultT:
    """Look again and again until there is something to see.

    Raises:
        AssertionError: There was nothing in time.
    """
    deadline = time.monotonic() + within_s
    while not (seen := observe()):
        assert time.monotonic() < deadline, f"not seen within {within_s} s"
        time.sleep(0.05)
    return seen


class MovableClock:
    """The database's own clock, which decides every expiry, under the test's control.

    The service asks PostgreSQL for ``clock_timestamp()``. A function of that name that comes before
    PostgreSQL's own in the search path answers with a shifted or a standing clock: nothing in the
    service is replaced, and what it writes it writes with the times that it was told.
    """

    def __init__(self, owner_conninfo: str) -> None:
        """Put the function into the database; connections opened from now on go by it."""
        self._conninfo = owner_conninfo
        with psycopg.connect(owner_conninfo, autocommit=True) as connection:
            connection.execute(
                "CREATE TABLE public.test_clock"
                " (shift interval NOT NULL DEFAULT '0', standing timestamptz)"
            )
            connection.execute("INSERT INTO public.test_clock DEFAULT VALUES")
            connection.execute("GRANT SELECT ON public.test_clock TO PUBLIC")
            connection.execute(
                "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE"
                " AS $$ SELECT coalesce(standing, pg_catalog.clock_timestamp() + shift)"
                " FROM public.test_clock $$"
            )
            connection.execute(
                "DO $$ BEGIN EXECUTE format("
                "'ALTER DATABASE %I SET search_path = public, pg_catalog', current_database());"
                " END $$"
            )

    def advance(self, by: timedelta) -> None:
        """Step on, or back where negative."""
        self._set("shift = shift + %s", by)

    @contextmanager
    def standing_at(self, instant: datetime) -> Iterator[None]:
        """Stand still at an instant; afterwards the clock is where it would have been."""
        self._set("standing = %s", instant)
        try:
            yield
        finally:
            self._set("standing = %s", None)

    def now(self) -> datetime:
        """The time that it tells."""
        with psycopg.connect(self._conninfo) as connection:
            row = connection.execute("SELECT public.clock_timestamp()").fetchone()
        assert row is not None
        instant: datetime = row[0]
        return instant

    def _set(self, assignment: str, value: object) -> None:
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            statement = f"UPDATE public.test_clock SET {assignment}"
            connection.execute(statement, (value,))
