"""Failed sign-ins on many accounts within the last hour: how many, on how many, few or many each.

The accounts tried last are told apart; those that had to make room, and names that nobody has, are
only numbered. A failure that the account's owner makes good by signing in from there is taken back:
people mistype, and succeed at the next try; who tries other people's passwords mostly does not.
"""

import msgspec

from detector.sliding import WINDOW_S, Sliding, added, total

_FORGIVEN = 4
"""More failures than these before a success are not taken for a mistyped password."""
_TRIES_A_NAME = 2
"""Names that nobody has are not told apart: taken for tried twice each, as people mistype them."""


class Tried(msgspec.Struct, frozen=True, array_like=True):
    """An account (or, for the accounts of a spray, a source) and its failures."""

    key: str
    count: int
    last: float


class Tries(msgspec.Struct, frozen=True, array_like=True):
    """Failed sign-ins.

    Attributes:
        tried: Accounts, the one tried last first; bounded.
        more: Failures on further accounts and unknown names.
        names: How many further accounts and unknown names, about.
    """

    tried: tuple[Tried, ...] = ()
    more: Sliding = ()
    names: Sliding = ()

    def total(self, now: float) -> int:
        """Failures within the last hour."""
        since = now - WINDOW_S
        failures = total(self.more, now) if self.more else 0
        for each in self.tried:
            if each.last > since:
                failures += each.count
        return failures

    def accounts(self, now: float, at_most: int) -> int:
        """Accounts with that many failures or fewer within the last hour."""
        since = now - WINDOW_S
        accounts = total(self.names, now) if self.names else 0
        for each in self.tried:
            if each.count <= at_most and each.last > since:
                accounts += 1
        return accounts

    def of(self, key: str, now: float) -> int:
        """Failures on one account within the last hour, as far as it is told apart."""
        for each in self.tried:
            if each.key == key and each.last > now - WINDOW_S:
                return each.count
        return 0


NO_TRIES = Tries()


def with_tries(tries: Tries, key: str, count: int, now: float, limit: int) -> Tries:
    """With some more failures on an account."""
    before = 0
    others = []
    for each in tries.tried:
        if each.key != key:
            others.append(each)
        elif each.last > now - WINDOW_S:
            before = each.count
    tried = Tried(key, before + count, now)
    if len(others) < limit:
        return Tries((tried, *others), tries.more, tries.names)
    dropped = others.pop()
    if dropped.last <= now - WINDOW_S:
        return Tries((tried, *others), tries.more, tries.names)
    return Tries(
        (tried, *others),
        added(tries.more, dropped.last, dropped.count),
        added(tries.names, dropped.last, 1),
    )


def with_hidden(tries: Tries, failures: int, unknown: int, accounts: int, now: float) -> Tries:
    """With failures on accounts that are not named.

    Args:
        tries: Before.
        failures: How many, in all.
        unknown: Of these, how many on names that nobody has.
        accounts: On how many accounts the rest was.
        now: When, in seconds since 1970.
    """
    if not failures:
        return tries
    # Half a name is kept for the next one: a source may be told one failure at a time.
    before = total(tries.more, now)
    names = (before + unknown) // _TRIES_A_NAME - before // _TRIES_A_NAME
    return Tries(
        tries.tried, added(tries.more, now, failures), added(tries.names, now, names + accounts)
    )


def made_good(tries: Tries, key: str) -> Tries:
    """Without the failures on an account whose owner then signed in, if they were few."""
    for each in tries.tried:
        if each.key == key and each.count <= _FORGIVEN:
            kept = tuple(other for other in tries.tried if other is not each)
            return Tries(kept, tries.more, tries.names)
    return tries
