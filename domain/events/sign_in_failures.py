"""Sign-in failures, counted: one event a window and source, however hard the attack."""

from typing import ClassVar

import msgspec

from domain.events.registry import Event, register
from domain.ids import UserId


class AccountFailures(msgspec.Struct, frozen=True):
    """Failures on one account within a window."""

    user_id: UserId
    count: int


@register
class SignInFailuresCounted(Event, frozen=True, kw_only=True):
    """Failed sign-ins from one source within one window.

    Personal (under the service's own data key): ``networks``, the source; several where the
    window saw more sources than are counted one by one.

    Attributes:
        window_start_us: Microseconds since 1970 UTC.
        window_s: Length of the window in seconds.
        failures: How many, in all.
        limited: How many of these were refused by a rate limit without a password check.
        unknown_accounts: Failures on names that nobody has.
        accounts: The accounts most tried, most tried first; bounded.
        accounts_omitted: How many further accounts were tried.
    """

    TYPE: ClassVar[str] = "SignInFailuresCounted"

    window_start_us: int
    window_s: int
    failures: int
    limited: int = 0
    unknown_accounts: int = 0
    accounts: list[AccountFailures] = msgspec.field(default_factory=list)
    accounts_omitted: int = 0
