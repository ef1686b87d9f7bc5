"""What auditors' routes need from outside, as Protocols; ``infra`` implements them."""

from collections.abc import AsyncIterator, Collection
from datetime import datetime
from typing import Protocol

from domain.as_of import AsOf
from domain.audit_history import HistoryOf, HistoryPage
from domain.events.envelope import Cause
from domain.exports import ExportRequest
from domain.ids import UserId
from projections.session_views import SessionsPage, SessionStatus
from projections.state_diffs import ChangesPage


class Past(Protocol):
    """Reads the past."""

    async def begins_at(self) -> datetime | None:
        """The earliest instant that can be asked for; None where nothing ever happened.

        Raises:
            AlteredHistoryError: What the log goes on from was tampered with.
        """
        ...

    async def sessions(
        self,
        as_of: AsOf,
        *,
        user_id: UserId | None,
        statuses: Collection[SessionStatus],
        limit: int,
        after: str | None,
    ) -> SessionsPage:
        """A page of the sessions as they stood; it may hold fewer, where more would take long.

        Args:
            as_of: The moment.
            user_id: Whose; None for everybody's.
            statuses: Any of these; empty for all.
            limit: At most so many, but for a family's last ones.
            after: ``next_after`` of the page before.

        Raises:
            UnknownPlaceError: There is no such place in the log.
            InvalidCursorError: ``after`` was not given out.
            AlteredHistoryError: A snapshot was tampered with.
            UnknownEventError: A newer build wrote to the log.
        """
        ...

    async def changes(
        self, first: AsOf, second: AsOf, *, user_id: UserId | None, limit: int, after: str | None
    ) -> ChangesPage:
        """A page of what became different between two moments; as ``sessions``."""
        ...


class AuditHistories(Protocol):
    """Reads histories out of the log."""

    async def page(self, of: HistoryOf, *, after: str | None, limit: int) -> HistoryPage:
        """Some of a history, sealed.

        Raises:
            UnknownHistoryError: The log has nothing of it.
            InvalidCursorError: ``after`` was not given out.
        """
        ...

    async def revealed(
        self, of: HistoryOf, *, reason: str, cause: Cause, after: str | None, limit: int
    ) -> HistoryPage:
        """The same, opened; that somebody has it opened is on record before.

        Raises:
            UnknownHistoryError: The log has nothing of it.
            InvalidCursorError: ``after`` was not given out.
            NothingToRevealError: Whoever it is about was erased.
        """
        ...


class MadeExport(Protocol):
    """An export that was made, to be handed over once."""

    @property
    def size(self) -> int:
        """How many bytes it has."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Its bytes; after them there is nothing left of it here."""
        ...


class Exports(Protocol):
    """Takes events out of the log, with their proofs."""

    async def export(self, request: ExportRequest, cause: Cause, most: int) -> MadeExport:
        """An export, once it is on record. One is made at a time; who comes meanwhile waits.

        Args:
            request: What.
            cause: Who.
            most: Events at most.

        Raises:
            ExportTooLargeError: There are more.
            NotExportedError: Nothing was signed yet, or the store is not what was signed.
        """
        ...
