"""How much happened, and how far behind those are who read of it: what an overview shows."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

KINDS = {
    "SessionStarted": "sign_ins",
    "RefreshTokenRotated": "refreshes",
    "SignInFailuresCounted": "failures",
    "AlertRaised": "alerts",
    "FamilyRevoked": "revocations",
}
"""The types of events that are counted, and what each stands for."""


class Counted(msgspec.Struct, frozen=True):
    """How many of one kind happened within one stretch of time.

    Attributes:
        began: When the stretch began.
        kind: One of the values of ``KINDS``.
        count: How many.
    """

    began: datetime
    kind: str
    count: int


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far behind the readers of the log are; None where there is none.

    Attributes:
        detector: Age in seconds of the oldest event that a stage has not judged, by stage.
        relay: Age in seconds of the oldest event that is not published.
        counted_to: Until when the log is counted.
        tree_size: Leaves under the last signed tree head.
        tree_signed_at: When that was signed.
    """

    detector: Mapping[str, float]
    relay: float | None
    counted_to: datetime | None
    tree_size: int | None
    tree_signed_at: datetime | None
