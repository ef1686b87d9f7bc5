"""The queue of alerts: the worst first, filters in the address, live, several at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Header, Request
from starlette.responses import Response as Answer

from api.alert_cursors import cursor_of
from api.alert_stream import alert_messages
from api.console.alert_filters import QUEUE, VIEWS, filter_in
from api.console.forms import form_of
from api.console.pages import page, see_other, with_cookies
from api.console.places import Whereabouts, whereabouts
from api.console.sign_in import own_path
from api.console.titles import title_of, titles
from api.console.visits import ActorVisit, ReaderVisit
from api.event_stream import EventStream
from api.ports import Services
from api.security import HeadersIn, ServicesIn
from domain.alert import Alert, AlertStatus
from domain.alert_decisions import Acknowledge
from domain.detection import Outcome, Response, Severity
from domain.ids import AlertId, UserId, parse_uuid
from domain.refusals import Refusal

router = APIRouter(prefix=QUEUE, include_in_schema=False)

_PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class AlertLine:
    """An alert as the queue shows it.

    Attributes:
        alert: The alert.
        title: What its rule is called.
        user: What its user is called; None where it is about none, or they were erased.
        assignee: What the member of staff is called whose it is.
        seen: The client that was seen.
        ended: Whether what it is about was ended already.
    """

    alert: Alert
    title: str
    user: str | None
    assignee: str | None
    seen: Whereabouts | None

    @property
    def ended(self) -> bool:
        """See the attributes."""
        return any(
            each.response.rank > Response.STEP_UP.rank and each.outcome is not Outcome.HELD_BACK
            for each in self.alert.answers
        )


@router.get("")
async def queue(request: Request, visit: ReaderVisit, services: ServicesIn) -> Answer:
    """The queue."""
    chosen = filter_in(request.query_params)
    found = await services.alert_queries.page(
        chosen.wanted(visit.caller.user.user_id), limit=_PAGE_SIZE, after=chosen.place
    )
    counts = await services.console.alert_counts()
    users = [] if chosen.user is None else [chosen.user]
    lines, names = await _lines(services, found.alerts, users)
    following = None if found.next_after is None else cursor_of(found.next_after)
    return await page(
        request,
        "alerts.html",
        visit,
        {
            "lines": lines,
            "filter": chosen,
            "views": {name: title for name, (title, _) in VIEWS.items()},
            "counts": _counts_of_views(counts),
            "severities": _counts_of_severities(counts),
            "rules": titles(services),
            "filtered_user": names.get(chosen.user) if chosen.user else None,
            "next": None if following is None else chosen.address(after=following),
            "here": chosen.address(after=chosen.after),
        },
    )


@router.post("/acknowledge")
async def acknowledge_selected(
    request: Request, visit: ActorVisit, services: ServicesIn, headers: HeadersIn
) -> Answer:
    """Acknowledges what was selected."""
    caller = visit.caller
    form = await form_of(request, services, headers, caller.session.session_id)
    back = own_path(form.text("back") or QUEUE)
    selected = [parsed for text in form.all("alert") if (parsed := parse_uuid(text))]
    done = 0
    for alert_id in selected[:_PAGE_SIZE]:
        after = await services.alerts.command(
            AlertId(alert_id), Acknowledge(), caller.cause_as_staff()
        )
        done += not isinstance(after, Refusal)
    if 0 < done < len(selected):
        did = "acknowledged-some"
    else:
        did = "acknowledged" if done else "nothing" if selected else "not-selected"
    return see_other(request, f"{back}{'&' if '?' in back else '?'}did={did}")


@router.get("/stream")
async def stream(
    request: Request,
    visit: ReaderVisit,
    services: ServicesIn,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Answer:
    """What happens to alerts, for pages that are open: as ``/v1/alerts/stream``."""
    answer: EventStream = alert_messages(
        services, request.app.state.stream_places, visit.caller, last_event_id
    )
    return with_cookies(request, answer)


async def _lines(
    services: Services, alerts: list[Alert], further: list[UserId]
) -> tuple[list[AlertLine], Mapping[UserId, str]]:
    wanted = {each for alert in alerts for each in (alert.user_id, alert.assignee) if each}
    names = await services.console.names(wanted | set(further))
    lines = [
        AlertLine(
            alert,
            title_of(services, alert.rule),
            names.get(alert.user_id) if alert.user_id else None,
            names.get(alert.assignee) if alert.assignee else None,
            whereabouts(services, alert.client),
        )
        for alert in alerts
    ]
    return lines, names


def _counts_of_views(counts: Mapping[AlertStatus, Mapping[Severity, int]]) -> dict[str, int]:
    by_status = {status: sum(each.values()) for status, each in counts.items()}
    is_open = by_status.get(AlertStatus.OPEN, 0)
    return {"to-do": is_open + by_status.get(AlertStatus.ACKNOWLEDGED, 0), "open": is_open}


def _counts_of_severities(
    counts: Mapping[AlertStatus, Mapping[Severity, int]],
) -> list[tuple[Severity, int]]:
    """How many there are to do of each severity, the worst first."""
    return [
        (severity, sum(each.get(severity, 0) for each in counts.values()))
        for severity in reversed(Severity)
    ]
