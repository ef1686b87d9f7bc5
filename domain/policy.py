"""How long sessions live and how strictly their refresh tokens rotate."""

from dataclasses import dataclass
from datetime import timedelta

MAX_LATE_RETRY_BUDGET = 8
"""The fold remembers this many late retries a session, so no policy may allow more."""


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """Lifetimes and limits of sessions. Every figure is a setting (see docs/settings.md).

    Attributes:
        access_lifetime: How long an access token is valid.
        idle_timeout: A session that does not refresh for this long ends.
        shared_computer_idle_timeout: The same, for sessions without "remember me".
        absolute_lifetime: A session ends this long after sign-in whatever happens.
        overlap_window: How long the immediate predecessor is answered with the same successor,
            from the same client. Zero is strictest: no retry of any kind.
        late_retry_budget: How many retries after the window are answered so in each
            ``late_retry_period``; 0 makes every late retry a reuse.
        late_retry_period: The period of that budget.
        session_limit: Live sessions a user may have; the least recently used ends at the next.
    """

    access_lifetime: timedelta = timedelta(minutes=10)
    idle_timeout: timedelta = timedelta(days=14)
    shared_computer_idle_timeout: timedelta = timedelta(hours=1)
    absolute_lifetime: timedelta = timedelta(days=90)
    overlap_window: timedelta = timedelta(seconds=10)
    late_retry_budget: int = 2
    late_retry_period: timedelta = timedelta(hours=24)
    session_limit: int = 100

    def __post_init__(self) -> None:
        """Refuse a policy that cannot be kept.

        Raises:
            ValueError: A lifetime is not positive, or a count is out of range.
        """
        for name in (
            "access_lifetime",
            "idle_timeout",
            "shared_computer_idle_timeout",
            "absolute_lifetime",
            "late_retry_period",
        ):
            if getattr(self, name) <= timedelta(0):
                msg = f"{name} must be positive"
                raise ValueError(msg)
        if self.overlap_window < timedelta(0):
            msg = "overlap_window must not be negative"
            raise ValueError(msg)
        if not 0 <= self.late_retry_budget <= MAX_LATE_RETRY_BUDGET:
            msg = f"late_retry_budget must be between 0 and {MAX_LATE_RETRY_BUDGET}"
            raise ValueError(msg)
        if self.session_limit < 1:
            msg = "session_limit must be at least 1"
            raise ValueError(msg)
