"""How many events a worker takes at a time, and how long it rests after what went wrong."""

from collections.abc import Sequence

from domain.ids import EventId

_REST_S = (0.1, 0.5, 2.0, 5.0)


class Pace:
    """The pace of one stage."""

    def __init__(self, batch: int) -> None:
        """Begin at full speed.

        Args:
            batch: Events a transaction.
        """
        self._batch = batch
        self._failures = 0
        self._one_by_one = 0
        self._suspect: EventId | None = None

    def limit(self) -> int:
        """The most events that the next batch may have."""
        return 1 if self._one_by_one else self._batch

    def rest(self) -> float:
        """Seconds to wait after a failure: longer after each, until something goes well."""
        self._failures += 1
        return _REST_S[min(self._failures, len(_REST_S)) - 1]

    def careful(self) -> None:
        """A batch failed for a reason of its own: find the event by going one by one."""
        self._one_by_one = self._batch

    def gives_up_on(self, events: Sequence[EventId]) -> bool:
        """Whether these are the one event that was tried alone before, and failed."""
        if not self._one_by_one or len(events) != 1:
            return False
        known, self._suspect = self._suspect, events[0]
        return known == self._suspect

    def went_well(self) -> None:
        """A batch has committed."""
        self._failures = 0
        self._suspect = None
        self._one_by_one = max(0, self._one_by_one - 1)
