"""Pages that are live stay so for as long as their visitor may look at them, and no longer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from playwright.sync_api import Route, expect

from domain.events.users import Role
from tests.alerts import raised
from tests.e2e.accounts import Account, add_user
from tests.e2e.alerts import raise_alert
from tests.e2e.browsing import Opened, beside, needs_chromium, sign_in
from tests.e2e.clients import Device
from tests.e2e.service import RunningService, command
from tests.e2e.streaming import Stream, stream_at
from tests.e2e.visiting import Visitor

Deed = Callable[[RunningService, Device, str], None]


def revoke_sessions(service: RunningService, admin: Device, user_id: str) -> None:
    assert service.url == admin.url
    assert admin.delete(f"/v1/users/{user_id}/sessions").status_code == 200


def take_the_role_away(service: RunningService, admin: Device, user_id: str) -> None:
    assert admin.session["user_id"] != user_id
    taken = command(service.environment, "users", "roles", user_id)
    assert taken.returncode == 0, taken.stderr


ENDS = pytest.mark.parametrize(
    ("deed", "status"),
    [(revoke_sessions, 401), (take_the_role_away, 403)],
    ids=["revoked", "without-role"],
)


@pytest.fixture
def analyst(shared_service: RunningService) -> Account:
    return beside(add_user, shared_service, roles=(Role.ANALYST,))


@pytest.fixture
def admin(shared_service: RunningService, device: Callable[..., Device]) -> Device:
    account = beside(add_user, shared_service, roles=(Role.ADMIN,))
    signed_in = device()
    assert signed_in.login(account.username, account.password).status_code == 200
    return signed_in


@contextmanager
def page_stream_of(visitor: Visitor) -> Iterator[Stream]:
    cookies = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    headers = {
        b"Cookie": cookies.encode(),
        b"Accept": b"text/event-stream",
        b"Sec-Fetch-Site": b"same-origin",
    }
    with stream_at(f"{visitor.url}/console/alerts/stream", headers) as stream:
        yield stream


@ENDS
def test_the_stream_of_a_page_ends_with_the_right_to_look_at_it(
    shared_service: RunningService, http: httpx.Client, admin: Device, deed: Deed, status: int
) -> None:
    account, viewer = add_user(shared_service, roles=(Role.ANALYST,)), Visitor(admin.url, http)
    assert viewer.sign_in(account).status_code == 303
    with page_stream_of(viewer) as stream:
        stream.begin()
        told = raise_alert(shared_service, raised())
        assert stream.message().alert_id == told.alert_id

        deed(shared_service, admin, account.user_id)
        raise_alert(shared_service, raised())

        assert list(stream.lines) == []
    with page_stream_of(viewer) as refused:
        assert refused.answer.status_code == status


@needs_chromium
@ENDS
def test_a_page_says_that_it_is_not_live_any_more(
    shared_service: RunningService, opened: Opened, admin: Device, deed: Deed, status: int
) -> None:
    account = beside(add_user, shared_service, roles=(Role.ANALYST,))
    page = opened()
    sign_in(page, shared_service.url, account)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()

    with page.expect_response(lambda answer: answer.status == status):
        deed(shared_service, admin, account.user_id)

    expect(page.get_by_text("Not live any more: load the page again.")).to_be_visible()
    secret = beside(raise_alert, shared_service, raised())
    assert page.locator(f'[data-id="{secret.alert_id}"]').count() == 0


@needs_chromium
def test_an_alert_that_came_while_the_service_was_away_is_shown_later(
    shared_service: RunningService, opened: Opened, analyst: Account
) -> None:
    page = opened()
    sign_in(page, shared_service.url, analyst)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    refused: list[str] = []

    def refuse(route: Route) -> None:
        refused.append(route.request.url)
        route.fulfill(status=503)

    page.route("**/console/alerts", refuse, times=1)
    told = beside(raise_alert, shared_service, raised())

    expect(page.locator(f'[data-id="{told.alert_id}"]')).to_be_visible(timeout=20_000)
    assert len(refused) == 1


@needs_chromium
def test_a_screen_on_the_wall_is_live_again_by_itself(
    shared_service: RunningService, opened: Opened, analyst: Account
) -> None:
    page = opened()
    page.route("**/console/alerts/stream", lambda route: route.fulfill(status=502), times=1)
    sign_in(page, shared_service.url, analyst)
    expect(page.get_by_text("Not live any more: load the page again.")).to_be_visible()
    told = beside(raise_alert, shared_service, raised())

    expect(page.locator(f'[data-id="{told.alert_id}"]')).to_be_visible(timeout=20_000)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()


@needs_chromium
def test_a_page_that_the_browser_had_put_aside_catches_up(
    shared_service: RunningService, opened: Opened, analyst: Account
) -> None:
    page = opened()
    sign_in(page, shared_service.url, analyst)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    # As the back/forward cache does it, which Playwright's Chromium has not got.
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    told = beside(raise_alert, shared_service, raised())

    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")

    expect(page.locator(f'[data-id="{told.alert_id}"]')).to_be_visible()
