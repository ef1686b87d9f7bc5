"""What the detector sees: one event, with what can be told of its client.

Live events, stored history and the player's requests all come as these, so that one set of rules
judges them all.
"""

from enum import StrEnum

import msgspec

from detector.crowd_names import CrowdNames, crowd_names, in_clear
from domain.client import ClientContext
from domain.detection import Response, Verdict
from domain.evidence import UNKNOWN_DEVICE, UNKNOWN_NETWORK, Device, Network
from domain.ids import EventId, FamilyId, UserId

NO_CLIENT = ClientContext()


class Kind(StrEnum):
    """What happened, as far as rules care."""

    SIGN_IN = "sign_in"
    REFRESH = "refresh"
    RETRY = "retry"
    """The predecessor again, within the overlap window: a lost answer, two tabs."""
    LATE_RETRY = "late_retry"
    """The same after the window, out of the budget."""
    REUSE = "reuse"
    """A token that was replaced: the family is revoked already."""
    UNRECOGNISED = "unrecognised"
    """A genuine token that this history never issued."""
    STEPPED_UP = "stepped_up"
    """The user proved themself again."""
    ENDED = "ended"
    """The family is over."""
    SIGN_IN_FAILURES = "sign_in_failures"
    """Failed sign-ins from one source, counted over a window."""
    FOUND = "found"
    """A rule found something about a user: an alert, as the crowd sees it."""
    ERASED = "erased"
    """The user was forgotten, and is to be forgotten here."""
    VERDICT = "verdict"
    """An analyst or the user said what an alert was."""


class Failures(msgspec.Struct, frozen=True):
    """Failed sign-ins from one source within a window.

    Attributes:
        source: The network that they came from, by its name among many (``CrowdNames``); None
            where several are counted together.
        total: How many.
        unknown: How many on names that nobody has.
        accounts: The accounts most tried, and how often.
        others: How many further accounts were tried.
    """

    source: str | None
    total: int
    unknown: int = 0
    accounts: tuple[tuple[UserId, int], ...] = ()
    others: int = 0


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened.

    Attributes:
        kind: What.
        second: When, in seconds since 1970, by the database's clock.
        event_id: The event that says so.
        user_id: Whom it is about; None for failures from a source.
        family_id: The session family, if it is about one.
        generation: Generation of the token that was presented.
        current_generation: The one that was current after it.
        client: Who seemed to be calling.
        network: Where from.
        device: On what.
        failures: For ``SIGN_IN_FAILURES``.
        rule: For ``FOUND``: the rule that spoke.
        response: For ``FOUND``: what is done about it.
        verdict: For ``VERDICT``.
        concealed: What the client is called where many are counted, if not by what it tells.
    """

    kind: Kind
    second: float
    event_id: EventId
    user_id: UserId | None = None
    family_id: FamilyId | None = None
    generation: int = 0
    current_generation: int = 0
    client: ClientContext = NO_CLIENT
    network: Network = UNKNOWN_NETWORK
    device: Device = UNKNOWN_DEVICE
    failures: Failures | None = None
    rule: str | None = None
    response: Response | None = None
    verdict: Verdict | None = None
    concealed: CrowdNames | None = None

    @property
    def names(self) -> CrowdNames:
        """What the client is called where many are counted."""
        if self.concealed is not None:
            return self.concealed
        return crowd_names(self.client, self.network, self.device, in_clear)
