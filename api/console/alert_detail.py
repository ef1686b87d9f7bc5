"""One alert: the story, what speaks for it, the family's life as a picture, what was done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from api.alerts import known_alert
from api.console.alert_filters import QUEUE
from api.console.facts import fact_lines
from api.console.family_timeline import picture_of
from api.console.pages import page
from api.console.places import Whereabouts, whereabouts
from api.console.stories import Told, story_of, trigger_in
from api.console.titles import subject_of, title_of
from api.console.visits import ReaderVisit, Visit
from api.ports import Services
from api.security import ServicesIn
from domain.alert import Alert
from domain.detection import Verdict
from domain.family import Family
from domain.histories import History, HistoryEntry
from domain.ids import UserId, alert_stream, family_stream
from domain.lifetimes import is_usable

router = APIRouter(prefix=QUEUE, include_in_schema=False)

_HISTORY_EVENTS = 200
_FAMILIES_BEFORE = 10
_NO_HISTORY = History([], 0)


@dataclass(frozen=True, slots=True)
class Change:
    """One thing about the client, before and now."""

    what: str
    before: str | None
    now: str | None

    @property
    def differs(self) -> bool:
        """Whether both are known, and are not the same."""
        return None not in {self.before, self.now} and self.before != self.now


@dataclass(frozen=True, slots=True)
class Deed:
    """One event of an alert's life."""

    entry: HistoryEntry
    actor: str
    details: str


@dataclass(frozen=True, slots=True)
class Undone:
    """Something that an analyst asked for, and that was not done.

    Attributes:
        problem: Why not.
        status: The answer's.
        deed: What it was.
        typed: What they had written, so that it is not lost.
    """

    problem: str
    status: int
    deed: str
    typed: str


@router.get("/{alert_id}")
async def show(
    alert_id: str, request: Request, visit: ReaderVisit, services: ServicesIn
) -> Response:
    """An alert's page."""
    return await shown(alert_id, request, visit, services, None)


async def shown(
    alert_id: str, request: Request, visit: Visit, services: Services, undone: Undone | None
) -> Response:
    """The same, with what was asked for in vain."""
    alert = await known_alert(alert_id, services)
    history = await services.histories.last(alert_stream(alert.alert_id), _HISTORY_EVENTS)
    family_history, family = _NO_HISTORY, None
    if alert.family_id is not None:
        stream = family_stream(alert.family_id)
        family_history = await services.histories.last(stream, _HISTORY_EVENTS)
        found = await services.sessions.family(alert.family_id)
        family = None if found is None else found[0]
    triagers = await services.console.triagers()
    names = {**await services.console.names(_named_in(alert, history)), **triagers}
    seen = whereabouts(services, alert.client)
    before = await _before(services, alert, family_history)
    rule = services.rulebook.described().get(alert.rule)
    told = Told(
        alert=alert,
        who=names.get(alert.user_id) if alert.user_id else None,
        looks_for=subject_of(services, alert.rule),
        entries=family_history.entries,
        complete=not family_history.earlier,
        before=before,
        seen=seen,
        now=visit.caller.at,
    )
    return await page(
        request,
        "alert.html",
        visit,
        {
            "alert": alert,
            "title": title_of(services, alert.rule),
            "rule": rule,
            "who": told.who,
            "names": names,
            "triagers": sorted(triagers.items(), key=lambda each: each[1]),
            "story": story_of(told),
            "facts": fact_lines(alert),
            "changes": _changes(before, seen) if seen else [],
            "seen": seen,
            "picture": picture_of(
                family_history.entries,
                family_history.earlier,
                alert.trigger_id,
                lambda client: whereabouts(services, client),
            ),
            "family_entries": _family_lines(services, family_history),
            "earlier": family_history.earlier,
            "live": _lives(family, visit),
            "life": [_deed(entry, names) for entry in reversed(history.entries)],
            "verdicts": list(Verdict),
            "undone": undone,
        },
        status=200 if undone is None else undone.status,
    )


async def _before(services: Services, alert: Alert, history: History) -> Whereabouts | None:
    """Where the user was before: in this family, or in the one that they used last."""
    trigger = trigger_in(history.entries, alert)
    if trigger is not None:
        earlier = [each for each in history.entries if each.version < trigger.version]
        for entry in reversed(earlier):
            if entry.personal.client is not None:
                return whereabouts(services, entry.personal.client)
    if alert.user_id is None:
        return None
    others = await services.console.families(alert.user_id, limit=_FAMILIES_BEFORE, before=None)
    sessions = [
        session
        for family in others.families
        if family.family_id != alert.family_id
        for session in family.sessions
        if session.started_at < alert.last_at
    ]
    if not sessions:
        return None
    return whereabouts(services, max(sessions, key=lambda each: each.last_seen_at).client)


def _changes(before: Whereabouts | None, seen: Whereabouts) -> Sequence[Change]:
    return [
        Change("Place", before.place if before else None, seen.place),
        Change("Network", before.network if before else None, seen.network),
        Change("Device", before.device if before else None, seen.device),
        Change("Address", before.ip if before else None, seen.ip),
    ]


def _lives(family: Family | None, visit: Visit) -> bool:
    return family is not None and any(
        is_usable(family, session, visit.caller.at) for session in family.sessions
    )


def _family_lines(
    services: Services, history: History
) -> list[tuple[HistoryEntry, Whereabouts | None]]:
    """The family's events, the latest first, each with its client."""
    return [
        (entry, whereabouts(services, entry.personal.client)) for entry in reversed(history.entries)
    ]


def _named_in(alert: Alert, history: History) -> set[UserId]:
    staff = {
        UserId(entry.actor.partition(":")[2])
        for entry in history.entries
        if entry.actor.startswith("staff:")
    }
    return staff | {each for each in (alert.user_id, alert.assignee) if each}


def _deed(entry: HistoryEntry, names: Mapping[UserId, str]) -> Deed:
    kind, _, name = entry.actor.partition(":")
    actor = names.get(UserId(name), name) if kind == "staff" else f"{kind} {name}".strip()
    details = ""
    if entry.type == "AlertAssigned":
        assignee = entry.data.get("assignee")
        details = names.get(UserId(str(assignee)), "somebody") if assignee else "nobody"
    return Deed(entry, actor, details)
