"""Times as people read them. UTC throughout: a console is read across time zones."""

from datetime import datetime, timedelta

_STEPS = (
    (timedelta(days=1), "day"),
    (timedelta(hours=1), "hour"),
    (timedelta(minutes=1), "minute"),
    (timedelta(seconds=1), "second"),
)
_SHORT = {"day": "d", "hour": "h", "minute": "min", "second": "s"}


def exact(at: datetime) -> str:
    """An instant, to the second.

    >>> from datetime import UTC
    >>> exact(datetime(2026, 3, 1, 12, 0, 5, 250, tzinfo=UTC))
    '2026-03-01 12:00:05 UTC'
    """
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def age(at: datetime, now: datetime) -> str:
    """How long ago, shortly, for lists.

    >>> from datetime import UTC
    >>> now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    >>> age(now - timedelta(minutes=61), now), age(now, now)
    ('1 h', 'now')
    """
    passed = now - at
    for step, name in _STEPS:
        if passed >= step:
            return f"{passed // step} {_SHORT[name]}"
    return "now"


def ago(at: datetime, now: datetime) -> str:
    """The same in a sentence.

    >>> from datetime import UTC
    >>> now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    >>> ago(now - timedelta(minutes=61), now), ago(now, now)
    ('1 h ago', 'just now')
    """
    passed = age(at, now)
    return "just now" if passed == "now" else f"{passed} ago"


def span(length: timedelta) -> str:
    """A length of time in words, by its largest unit.

    >>> span(timedelta(days=41, hours=3)), span(timedelta(seconds=61)), span(timedelta(0))
    ('41 days', '1 minute', 'a moment')
    """
    for step, name in _STEPS:
        if length >= step:
            count = length // step
            return f"{count} {name}" + ("" if count == 1 else "s")
    return "a moment"
