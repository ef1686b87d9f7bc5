"""The overview: what happens, over time, and how far behind those are who read of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, Request, Response

from api.console.charts import Chart, chart_of
from api.console.pages import page
from api.console.visits import ReaderVisit
from api.security import ServicesIn
from domain.alert import AlertStatus

router = APIRouter(prefix="/console/overview", include_in_schema=False)

RANGES = {
    "day": ("24 hours", timedelta(days=1), timedelta(minutes=15)),
    "week": ("7 days", timedelta(days=7), timedelta(hours=2)),
    "month": ("30 days", timedelta(days=30), timedelta(hours=8)),
}
"""What each range is called, its length, and the stretches that it is drawn in."""
_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_CHARTS = {
    "sign_ins": ("Sign-ins", ""),
    "refreshes": ("Refreshes", ""),
    "failures": ("Failed sign-ins", "warn"),
    "alerts": ("Alerts", "warn"),
    "revocations": ("Session families revoked", "bad"),
}


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart with its name."""

    title: str
    tone: str
    chart: Chart


@router.get("")
async def overview(request: Request, visit: ReaderVisit, services: ServicesIn) -> Response:
    """The page."""
    chosen = request.query_params.get("range", "day")
    if chosen not in RANGES:
        chosen = "day"
    _, length, stretch = RANGES[chosen]
    # Whole stretches, the last of which is still going on.
    until = _EPOCH + ((visit.caller.at - _EPOCH) // stretch + 1) * stretch
    since = until - length
    counted = await services.activity.counted(since, until, stretch)
    by_kind: dict[str, dict[datetime, int]] = {kind: {} for kind in _CHARTS}
    for each in counted:
        by_kind[each.kind][each.began] = each.count
    counts = await services.console.alert_counts()
    return await page(
        request,
        "overview.html",
        visit,
        {
            "ranges": {name: title for name, (title, _, _) in RANGES.items()},
            "chosen": chosen,
            "panels": _panels(by_kind, since, until, stretch),
            "standing": await services.activity.standing(),
            "open_alerts": sum(counts.get(AlertStatus.OPEN, {}).values()),
        },
    )


def _panels(
    by_kind: Mapping[str, Mapping[datetime, int]],
    since: datetime,
    until: datetime,
    stretch: timedelta,
) -> list[Panel]:
    return [
        Panel(title, tone, chart_of(by_kind[kind], since, until, stretch))
        for kind, (title, tone) in _CHARTS.items()
    ]
