"""What is counted over many users: failed sign-ins by account and source, and shared origins.

All are bounded: what is counted one by one is a fixed number of keys, the rest only numbered.
"""

import msgspec

from detector.familiar import Counts, Familiar


class AccountState(msgspec.Struct, frozen=True, array_like=True):
    """Failed sign-ins on one account, and where its owner usually is.

    Attributes:
        since: Start of the window, in seconds since 1970.
        last: The latest failure.
        failures: Failures from networks that are not the owner's, within the window.
        sources: Those networks.
        homes: Networks (prefixes) of its successful sign-ins.
    """

    since: float = 0.0
    last: float = 0.0
    failures: int = 0
    sources: Counts = ()
    homes: Familiar = ()


class SourceState(msgspec.Struct, frozen=True, array_like=True):
    """Failed sign-ins from one network.

    Attributes:
        since: Start of the window, in seconds since 1970.
        last: The latest failure.
        failures: How many within the window.
        accounts: The accounts that were tried.
        others: How many further accounts were tried.
        successes: Accounts whose sign-in succeeded within the window, having failed in it or not.
    """

    since: float = 0.0
    last: float = 0.0
    failures: int = 0
    accounts: Counts = ()
    others: int = 0
    successes: Counts = ()


class SprayState(msgspec.Struct, frozen=True, array_like=True):
    """Failed sign-ins from everywhere, where source and account do not belong together.

    Attributes:
        since: Start of the window, in seconds since 1970.
        last: The latest failure.
        failures: How many within the window.
        sources: Where from.
        accounts: On which accounts.
        baseline: How many a window has on ordinary days (moving average).
    """

    since: float = 0.0
    last: float = 0.0
    failures: int = 0
    sources: Counts = ()
    accounts: Counts = ()
    baseline: float = 0.0


class OriginState(msgspec.Struct, frozen=True, array_like=True):
    """Users about whom something was found, from one network with one device.

    Attributes:
        users: Who, when last (in seconds since 1970), latest first.
    """

    users: tuple[tuple[str, float], ...] = ()
