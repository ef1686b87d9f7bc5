"""The console, put together."""

from fastapi import APIRouter, FastAPI, Request, Response

from api.console import (
    account,
    account_report,
    alert_actions,
    alert_allowing,
    alert_detail,
    alert_revoking,
    alerts,
    assets,
    audit_differences,
    audit_events,
    audit_exports,
    audit_sessions,
    faults,
    overview,
    people,
    rules,
    sign_in,
)
from api.console.faults import fault_page, is_page
from api.console.pages import see_other
from api.console.visits import VisitIn

__all__ = ["fault_page", "install", "is_page"]

_entrance = APIRouter(include_in_schema=False)
_MODULES = (
    assets,
    sign_in,
    alerts,
    alert_detail,
    alert_revoking,
    alert_allowing,
    alert_actions,
    people,
    overview,
    rules,
    audit_sessions,
    audit_differences,
    audit_events,
    audit_exports,
    account_report,
    account,
)


@_entrance.get("/console")
async def entrance(request: Request, visit: VisitIn) -> Response:
    """Leads to what the visitor is here for."""
    return see_other(request, "/console/alerts" if visit.may_read else "/account")


def install(app: FastAPI) -> None:
    """Add the pages to an application."""
    app.include_router(_entrance)
    for module in _MODULES:
        app.include_router(module.router)
    faults.install(app)
