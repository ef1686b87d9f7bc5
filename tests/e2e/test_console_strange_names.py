"""What strangers chose stays in its place: it neither pushes nor turns what stands beside it."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from domain.events.users import Role
from domain.ids import FamilyId, UserId
from tests.alerts import raised
from tests.e2e.accounts import Account, add_user
from tests.e2e.alerts import raise_alert
from tests.e2e.browsing import Opened, beside, needs_chromium, sign_in
from tests.e2e.clients import FIREFOX, Device
from tests.e2e.service import RunningService

pytestmark = needs_chromium

LONG = "W" * 100
TURNED = "\N{RIGHT-TO-LEFT OVERRIDE}moc.elgoog"
WIDTHS = {320: 640, 640: 450, 1280: 860, 2560: 1300}
"""Of the window, each with its height; 640 is 1280 at 200 %."""


@pytest.fixture
def stranger(shared_service: RunningService) -> Account:
    name = f"{'w' * 120}@example.com"
    return beside(add_user, shared_service, username=name, roles=(Role.ANALYST, Role.AUDITOR))


@pytest.fixture
def signed_in(device: Callable[..., Device]) -> Callable[[Account, str], Device]:
    """Signs a device in under a name."""

    def sign_a_device_in(account: Account, name: str) -> Device:
        made = device(user_agent=FIREFOX)
        assert made.login(account.username, account.password, device_name=name).status_code == 200
        return made

    return sign_a_device_in


def assert_nothing_is_pushed_out(page: Page) -> None:
    for width, height in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": height})
        wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wider <= 0, f"{page.url} is {wider} px wider than {width} px"


def test_a_long_name_pushes_nothing_out_of_any_page(
    shared_service: RunningService,
    opened: Opened,
    stranger: Account,
    signed_in: Callable[[Account, str], Device],
) -> None:
    ended, live = signed_in(stranger, LONG), signed_in(stranger, LONG)
    assert ended.post("/v1/logout").status_code == 204
    user_id, family_id = UserId(stranger.user_id), FamilyId(live.session["family_id"])
    alert = beside(raise_alert, shared_service, raised(user_id=user_id, family_id=family_id))
    page = opened()
    sign_in(page, shared_service.url, stranger)
    about, person = f"/console/alerts/{alert.alert_id}", f"/console/people/{user_id}"
    report = f"/account/report/{live.session['session_id']}"

    for path in (
        *("/console/alerts", about, f"{about}/revoke?what=all", f"{about}/allow"),
        *(person, f"{person}/revoke", "/account", report),
    ):
        page.goto(shared_service.url + path)
        expect(page.locator("bdi").first).to_be_attached()
        assert_nothing_is_pushed_out(page)


def test_a_name_that_is_written_backwards_turns_nothing_but_itself(
    shared_service: RunningService,
    opened: Opened,
    signed_in: Callable[[Account, str], Device],
) -> None:
    account = beside(add_user, shared_service)
    named = signed_in(account, TURNED)
    page = opened(viewport={"width": 2560, "height": 1300})  # wide enough for one line
    sign_in(page, shared_service.url, account, "/account")

    line = page.locator(f'[data-id="{named.session["session_id"]}"]')

    name = line.get_by_text("moc.elgoog").first.bounding_box()
    client = line.locator(".dim", has_text="Firefox on Linux").first.bounding_box()
    assert name is not None
    assert client is not None
    assert name["x"] + name["width"] <= client["x"], "the name has taken its client along"


def test_somebody_who_reported_a_session_is_not_asked_again(
    shared_service: RunningService,
    opened: Opened,
    signed_in: Callable[[Account, str], Device],
) -> None:
    account = beside(add_user, shared_service)
    signed_in(account, "a phone")
    page = opened()
    sign_in(page, shared_service.url, account, "/account")
    expect(page.get_by_text("just now").first).to_be_visible()

    page.get_by_role("link", name="This wasn’t me").click()
    expect(page.locator(".story")).to_contain_text("a phone")
    page.get_by_role("button", name="It wasn’t me").click()

    expect(page.get_by_text("you said that it wasn’t you")).to_be_visible()
    expect(page.get_by_role("link", name="This wasn’t me")).to_have_count(0)


def test_a_wrong_password_does_not_forget_the_wish_to_stay_signed_in(
    shared_service: RunningService, opened: Opened
) -> None:
    page = opened()
    page.goto(f"{shared_service.url}/account")
    page.get_by_label("User name").fill("nobody@example.com")
    page.get_by_label("Password").fill("wrong")
    page.get_by_label("Keep me signed in").check()

    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("alert")).to_have_text("User name or password is wrong.")
    expect(page.get_by_label("Keep me signed in")).to_be_checked()
