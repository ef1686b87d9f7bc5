"""An alert told in plain words: what was, and what happened then."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from api.console.places import Whereabouts
from api.console.times import span
from domain.alert import Alert
from domain.histories import HistoryEntry

_REFRESHES = {"RefreshTokenRotated", "RefreshRetried"}


@dataclass(frozen=True, slots=True)
class Part:
    """Some words of a story; the strong ones can be read alone."""

    text: str
    strong: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a story is made from.

    Attributes:
        alert: The alert.
        who: What the user is called; None where it is about none, or they were erased.
        looks_for: What the rule looks for.
        entries: The family's last events.
        complete: Whether these are all.
        before: Where the user was before; None where nobody knows.
        seen: The client that was seen.
        now: When the story is told.
    """

    alert: Alert
    who: str | None
    looks_for: str
    entries: Sequence[HistoryEntry]
    complete: bool
    before: Whereabouts | None
    seen: Whereabouts | None
    now: datetime


def story_of(told: Told) -> list[Part]:
    """The story of an alert."""
    if told.alert.user_id is None or told.seen is None:
        return _of_many(told)
    trigger = trigger_in(told.entries, told.alert)
    if trigger is None or trigger.type == "SessionStarted":
        return _of_a_sign_in(told)
    return [*_how_it_began(told, trigger), *_what_happened(told, trigger)]


def trigger_in(entries: Sequence[HistoryEntry], alert: Alert) -> HistoryEntry | None:
    """The event of the family that the alert is about, as far as it is among these."""
    return next((entry for entry in entries if entry.event_id == alert.trigger_id), None)


def _of_many(told: Told) -> list[Part]:
    alert = told.alert
    parts = [Part(told.looks_for.rstrip(".") + ".")]
    if alert.count > 1:
        parts += [
            Part(" It was seen "),
            Part(f"{alert.count} times", strong=True),
            Part(f" within {span(alert.last_at - alert.first_at)}, the last time "),
        ]
    else:
        parts.append(Part(" It was seen "))
    return [*parts, Part(_ago(alert.last_at, told.now), strong=True), Part(".")]


def _of_a_sign_in(told: Told) -> list[Part]:
    before, seen, subject = told.before, told.seen, told.who or "the user"
    parts = []
    if before is not None:
        parts = [
            Part(f"{subject} was last seen in "),
            Part(before.where, strong=True),
            Part(" with "),
            Part(before.what, strong=True),
            Part(". "),
        ]
    parts += [
        Part(_ago(told.alert.last_at, told.now).capitalize(), strong=True),
        Part(f", {'somebody signed in as them' if before else subject + ' signed in'} from "),
    ]
    return [*parts, *_seen(seen), Part(".")]


def _how_it_began(told: Told, trigger: HistoryEntry) -> list[Part]:
    began = told.entries[0]
    earlier = [entry for entry in told.entries if entry.at < trigger.at]
    refreshes = sum(entry.type in _REFRESHES for entry in earlier)
    parts = [Part(f"{_subject(told)} was signed in")]
    if told.before is not None:
        parts += [
            Part(" from "),
            Part(told.before.where, strong=True),
            Part(" on "),
            Part(told.before.what, strong=True),
        ]
    if told.complete:
        parts += [Part(" for "), Part(span(trigger.at - began.at), strong=True)]
    if refreshes:
        more = "" if told.complete else "more than "
        parts.append(Part(f", with {more}{_counted(refreshes, 'refresh', 'refreshes')}"))
    return [*parts, Part(". ")]


def _what_happened(told: Told, trigger: HistoryEntry) -> list[Part]:
    when = Part(_ago(trigger.at, told.now).capitalize(), strong=True)
    match trigger.type:
        case "RefreshTokenReused":
            what = ", a token that had been replaced came back, from "
        case "RefreshRetried":
            what = ", the same token was asked for a second time, from "
        case "RefreshTokenUnrecognised":
            what = ", a token that this session never had was presented, from "
        case "EndedSessionRefreshRefused":
            what = ", somebody tried to go on with the session after its end, from "
        case _:
            what = ", the same session was used from "
    parts = [when, Part(what), *_seen(told.seen), Part(".")]
    if trigger.type == "RefreshTokenReused":
        parts.append(Part(" So two clients hold the same session, and one of them is a thief."))
    return parts


def _seen(seen: Whereabouts | None) -> list[Part]:
    if seen is None:
        return [Part("a client that is not known any more")]
    parts = [Part(seen.where, strong=True)]
    if seen.warning is not None:
        parts.append(Part(f" ({seen.warning})"))
    return [*parts, Part(" with "), Part(seen.what, strong=True)]


def _subject(told: Told) -> str:
    return told.who or "The user"


def _ago(at: datetime, now: datetime) -> str:
    return f"{span(now - at)} ago"


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
