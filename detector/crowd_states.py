"""What is counted over many users: failed sign-ins by account and source, and shared origins.

All are bounded: what is counted one by one is a fixed number of keys, the rest only numbered.
"""

from math import sqrt

import msgspec

from detector.familiar import Counts, Familiar, find
from detector.sliding import Sliding, total
from detector.tries import NO_TRIES, Tries

DAY_S = 86400.0
_HOME_AFTER_S = DAY_S
"""A network becomes a home of an account a day after its first success there: not by a thief's."""
_USUAL_FAILURES = 2.0
_USUAL_SIGN_INS = 40.0
"""Until failures have been seen: one to twenty sign-ins that nobody makes good."""
_NOISE = 4.0
"""Standard deviations: of a Poisson count, exceeded once in some 30,000 hours."""


class AccountState(msgspec.Struct, frozen=True, array_like=True):
    """Failed sign-ins on one account, and where its owner usually is.

    Attributes:
        failures: Failures from networks that are not the owner's, within an hour.
        sources: The networks that they came from last.
        homes: Networks (prefixes) of its successful sign-ins.
    """

    failures: Sliding = ()
    sources: Counts = ()
    homes: Familiar = ()

    def is_home(self, source: str, now: float) -> bool:
        """Whether its owner has been signing in from there, for longer than a day."""
        home = find(self.homes, source)
        return home is not None and now - home.first >= _HOME_AFTER_S

    def recent(self, now: float) -> int:
        """Failures within the last hour."""
        return total(self.failures, now)


class SourceState(msgspec.Struct, frozen=True, array_like=True):
    """Sign-ins from one network that failed, and who succeeds there.

    Attributes:
        tries: Failures on accounts whose owners are not at home there.
        visitors: Who signed in there last, latest first; bounded.
        days: Users who signed in there, by day, latest first: today's and the day's before.
    """

    tries: Tries = NO_TRIES
    visitors: tuple[str, ...] = ()
    days: tuple[tuple[int, int], ...] = ()

    def users(self, now: float) -> int:
        """About how many users have signed in there lately; in one or two days."""
        yesterday = int(now // DAY_S) - 1
        return sum(count for day, count in self.days if day >= yesterday)


class SprayState(msgspec.Struct, frozen=True, array_like=True):
    """Failed sign-ins from everywhere, where source and account do not belong together.

    Attributes:
        accounts: Failures by account; of one source, only its first few count.
        sources: Failures by source.
        marks: Sign-ins of all users until the first failure in each part of the last hour, latest
            first: what was to be expected follows from how many sign in.
        hour: The hour that is going on (hours since 1970).
        past_failures: In the hours before it, the longer ago the less.
        past_sign_ins: Sign-ins in these hours, likewise.
    """

    accounts: Tries = NO_TRIES
    sources: Tries = NO_TRIES
    marks: Sliding = ()
    hour: int = 0
    past_failures: float = 0.0
    past_sign_ins: float = 0.0

    def expected(self, sign_ins: int) -> float:
        """Failures to be expected beside so many sign-ins, if people mistype as they always did."""
        rate = (self.past_failures + _USUAL_FAILURES) / (self.past_sign_ins + _USUAL_SIGN_INS)
        return rate * sign_ins

    def explained(self, sign_ins: int) -> float:
        """The most failures that mistyping explains: what is expected, and its noise."""
        expected = self.expected(sign_ins)
        return expected + _NOISE * sqrt(expected)

    def sign_ins(self, so_far: int) -> int:
        """Sign-ins in the hour that the failures are counted over."""
        return so_far - self.marks[-1][1] if self.marks else 0


class OriginState(msgspec.Struct, frozen=True, array_like=True):
    """Users about whom something was found, from one network with one device.

    Attributes:
        users: Who, when last (in seconds since 1970), latest first.
    """

    users: tuple[tuple[str, float], ...] = ()
