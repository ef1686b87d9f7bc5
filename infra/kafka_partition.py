"""What a consumer knows of one partition that it holds: how far it is, and what waits to be judged.

The database holds the place of the last event that counted and the offset behind its message. The
place alone says what is new. The offset only says where to look, and is not trusted: it may be of
a topic that was made anew. Reading starts one message before it, and only what stands there proves
that nothing in between is missing.
"""

from collections import deque
from collections.abc import Sequence
from enum import Enum, auto

import msgspec

from domain.events.envelope import RecordedEvent
from infra.detector_set_aside import Unread
from infra.kafka_consumer import BEGINNING
from infra.tail import START, Place


class EventsMissingError(Exception):
    """The topic lacks events that were not judged yet; the message says what to do."""

    def __init__(self, partition: int) -> None:
        """Name the partition."""
        super().__init__(
            f"events behind the detector's place on partition {partition} are not on the topic any"
            " more; set SESSIONTRAIL_KAFKA_TOPIC to a new name for the relay and the detector: it"
            " gets the whole log, and the detector goes on where it stopped"
        )


class Bookmark(msgspec.Struct, frozen=True):
    """How far a partition was read.

    Attributes:
        place: The last event that counted.
        offset: The offset behind its message; None before the first.
    """

    place: Place
    offset: int | None


class Waiting(msgspec.Struct, frozen=True):
    """A message with an event to be judged, or to be set aside since nobody can read it.

    Attributes:
        offset: Of the message.
        place: Of the event.
        event: The event, or what its message tells of one that cannot be read.
    """

    offset: int
    place: Place
    event: RecordedEvent | Unread


class Verdict(Enum):
    """What to do with a message."""

    TAKE = auto()
    DROP = auto()
    """It was seen before: relays publish again after a crash."""
    READ_FROM_BEGINNING = auto()
    """The offset was of another topic, or too old: look for the place from the beginning."""


class HeldPartition:
    """One partition, from when it was taken to when it is gone."""

    def __init__(self, number: int, stored: Bookmark) -> None:
        """Begin at the stored bookmark.

        Args:
            number: Of the partition.
            stored: As the database has it.
        """
        self.number = number
        self.stored = stored
        self.read = stored
        """As far as messages were taken or dropped."""
        self.waiting: deque[Waiting] = deque()
        self.is_stuck = False
        """Whether nothing more can be read here by this build."""
        self._is_proven = stored.place == START
        self._is_rewound = self.first_offset == BEGINNING

    @property
    def first_offset(self) -> int:
        """Where to begin to read: at the last message that counted, so that it can be seen."""
        if self.stored.offset is None or self.stored.offset == 0:
            return BEGINNING
        return self.stored.offset - 1

    def judge(self, offset: int, place: Place) -> Verdict:
        """What to do with the next message.

        Raises:
            EventsMissingError: Events between the place that was reached and this one are lost.
        """
        if not self._is_proven and place > self.stored.place:
            if not self._is_rewound:
                self._is_rewound = True
                return Verdict.READ_FROM_BEGINNING
            if offset != self.stored.offset:  # or else it is the very next, and older ones expired
                raise EventsMissingError(self.number)
        self._is_proven = True
        if place <= self.read.place:
            self.read = Bookmark(self.read.place, offset + 1)
            return Verdict.DROP
        self.read = Bookmark(place, offset + 1)
        return Verdict.TAKE

    def counted(self, taken: Sequence[Waiting]) -> Bookmark:
        """The bookmark once these, the first that wait, are dealt with."""
        if len(taken) == len(self.waiting):
            return self.read  # what was passed over behind the last one counts too
        return Bookmark(taken[-1].place, taken[-1].offset + 1)

    def settle(self, taken: int, stored: Bookmark) -> None:
        """The database has it: the first so many are dealt with."""
        for _ in range(taken):
            self.waiting.popleft()
        self.stored = stored
