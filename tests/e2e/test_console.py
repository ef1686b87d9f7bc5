"""The console in a real browser: by mouse, by keyboard, without scripts."""

from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Browser, expect

from domain.alert import Alert
from domain.detection import Severity
from domain.events.users import Role
from domain.ids import FamilyId, UserId
from tests.alerts import raised
from tests.e2e.accounts import Account, add_user
from tests.e2e.alerts import raise_alert
from tests.e2e.browsing import Opened, beside, needs_chromium, sign_in, violations
from tests.e2e.clients import Device, assert_no_secret_in
from tests.e2e.service import RunningService

pytestmark = needs_chromium


@pytest.fixture
def analyst(shared_service: RunningService) -> Account:
    return beside(add_user, shared_service, roles=(Role.ANALYST,))


def alert_about(
    service: RunningService, victim: Device, severity: Severity = Severity.CRITICAL
) -> Alert:
    return beside(
        raise_alert,
        service,
        raised(
            user_id=UserId(victim.session["user_id"]),
            family_id=FamilyId(victim.session["family_id"]),
            severity=severity,
        ),
    )


def test_an_alert_arrives_live_and_the_stolen_session_is_ended(
    shared_service: RunningService, opened: Opened, analyst: Account, victim: Device
) -> None:
    page = opened()
    sign_in(page, shared_service.url, analyst)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    page.evaluate("window.stayed = true")

    alert = alert_about(shared_service, victim)

    line = page.locator(f'[data-id="{alert.alert_id}"]')
    expect(line).to_be_visible()
    assert page.evaluate("window.stayed"), "the page was loaded again"
    line.get_by_role("link").click()
    expect(page.get_by_role("heading", name="What happened")).to_be_visible()
    expect(page.get_by_text("session is live")).to_be_visible()
    page.get_by_role("link", name="Revoke …").click()
    expect(page.get_by_text("This session ends at once")).to_be_visible()
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("Revoked. The next refresh")).to_be_visible()
    assert victim.refresh().status_code == 401

    page.get_by_label("Attack").check()
    page.get_by_label("Comment (may stay empty)").fill("token was stolen")
    page.get_by_role("button", name="Resolve").click()
    expect(page.get_by_role("status").filter(has_text="Resolved.")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Open again.")).to_be_visible()


def test_all_of_it_by_keyboard_alone(
    shared_service: RunningService, opened: Opened, analyst: Account, victim: Device
) -> None:
    alert = alert_about(shared_service, victim)
    page = opened()
    keys = page.keyboard
    page.goto(f"{shared_service.url}/console/alerts?user={victim.session['user_id']}")
    expect(page.get_by_label("User name")).to_be_focused()
    keys.type(analyst.username)
    keys.press("Tab")
    keys.type(analyst.password)
    keys.press("Enter")
    expect(page.get_by_role("heading", name="Alerts")).to_be_visible()

    keys.press("j")
    keys.press("a")
    expect(page.get_by_text("Acknowledged: it is known")).to_be_visible()
    keys.press("j")
    keys.press("Enter")
    page.wait_for_url(f"**/console/alerts/{alert.alert_id}")
    keys.press("r")
    expect(page.get_by_role("button", name="Revoke")).to_be_focused()
    keys.press("Enter")
    expect(page.get_by_text("Revoked. The next refresh")).to_be_visible()
    keys.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    keys.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()

    assert victim.refresh().status_code == 401


def test_all_of_it_without_scripts(
    shared_service: RunningService, opened: Opened, analyst: Account, victim: Device
) -> None:
    alert = alert_about(shared_service, victim)
    page = opened(java_script_enabled=False)
    sign_in(page, shared_service.url, analyst)

    page.locator(f'[data-id="{alert.alert_id}"] input').check()
    page.get_by_role("button", name="Acknowledge selected").click()
    expect(page.get_by_text("Acknowledged: it is known")).to_be_visible()
    page.locator(f'[data-id="{alert.alert_id}"] a').click()
    page.get_by_role("button", name="Take it").click()
    expect(page.get_by_text("Assigned.")).to_be_visible()
    page.get_by_role("link", name="Revoke …").click()
    page.get_by_role("button", name="Revoke").click()

    expect(page.get_by_text("Revoked. The next refresh")).to_be_visible()
    assert victim.refresh().status_code == 401


def test_somebody_ends_the_session_of_another_device_and_reports_a_third(
    shared_service: RunningService,
    opened: Opened,
    device: Callable[..., Device],
    analyst: Account,
) -> None:
    account = beside(add_user, shared_service)
    phone, stranger = device(user_agent="Phone/1.0"), device(user_agent="curl/8.14.1")
    for each in (phone, stranger):
        each.login(account.username, account.password)
    page = opened()
    sign_in(page, shared_service.url, account, "/account")

    page.locator(f'[data-id="{phone.session["session_id"]}"]').get_by_role(
        "button", name="Sign out"
    ).click()
    expect(page.get_by_text("Signed out. That device")).to_be_visible()
    page.locator(f'[data-id="{stranger.session["session_id"]}"]').get_by_role(
        "link", name="This wasn’t me"
    ).click()
    page.get_by_role("button", name="It wasn’t me").click()
    expect(page.get_by_text("the security team knows")).to_be_visible()

    assert phone.refresh().status_code == 401
    assert stranger.refresh().status_code == 401
    other = opened()
    sign_in(other, shared_service.url, analyst)
    other.goto(f"{shared_service.url}/console/alerts?user={phone.session['user_id']}")
    expect(other.get_by_role("link", name="The user says it wasn’t them")).to_be_visible()


def test_other_devices_are_ended_by_keyboard_alone_and_without_scripts(
    shared_service: RunningService, opened: Opened, device: Callable[..., Device]
) -> None:
    account = beside(add_user, shared_service)
    phone, tablet = device(user_agent="Phone/1.0"), device(user_agent="Tablet/1.0")
    for each in (phone, tablet):
        each.login(account.username, account.password)
    page = opened()
    sign_in(page, shared_service.url, account, "/account")

    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Signed out. That device")).to_be_visible()
    assert (phone.refresh().status_code, tablet.refresh().status_code) == (200, 401)
    plain = opened(java_script_enabled=False)
    sign_in(plain, shared_service.url, account, "/account")
    plain.get_by_text("Everywhere else", exact=True).click()
    plain.get_by_role("button", name="Sign out everywhere else").click()
    expect(plain.get_by_text("Every other device is signed out.").first).to_be_visible()

    assert phone.refresh().status_code == 401


def test_no_page_lets_itself_be_framed(
    shared_service: RunningService, chromium: Browser, analyst: Account
) -> None:
    with chromium.new_context() as context:
        page = context.new_page()
        sign_in(page, shared_service.url, analyst)

        page.goto("about:blank")
        page.set_content(f'<iframe src="{shared_service.url}/console/alerts"></iframe>')
        page.wait_for_function("document.querySelector('iframe').contentDocument === null")

        framed = page.frames[1]
        framed.wait_for_load_state()
        assert framed.url.startswith("chrome-error:")


def test_an_admin_sees_what_a_threshold_would_do_before_it_is_saved(
    shared_service: RunningService, opened: Opened
) -> None:
    page = opened()
    admin = beside(add_user, shared_service, roles=(Role.ADMIN,))
    sign_in(page, shared_service.url, admin, "/console/rules/device-change")

    page.get_by_label("alert at").fill("61")
    page.get_by_role("button", name="Try on the last days").click()
    expect(page.get_by_role("heading", name="What these settings would have")).to_be_visible()
    expect(page.get_by_text("Nothing was changed.")).to_be_visible()
    expect(page.get_by_label("alert at")).to_have_value("61")
    page.get_by_role("button", name="Save what stands above").click()

    expect(page.get_by_text("Saved. The detector goes by it")).to_be_visible()
    expect(page.get_by_label("alert at")).to_have_value("61")


def test_a_person_is_found_and_their_session_ended(
    shared_service: RunningService, opened: Opened, analyst: Account, victim: Device
) -> None:
    page = opened()
    sign_in(page, shared_service.url, analyst, "/console/people")

    page.get_by_label("User name, subject or id").fill(victim.session["user_id"])
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Revoke …").click()
    page.get_by_role("button", name="Revoke").click()

    expect(page.get_by_text("Revoked. The next refresh")).to_be_visible()
    expect(page.get_by_text("ended by the security team")).to_be_visible()
    assert victim.refresh().status_code == 401


def test_a_revoked_session_is_out_at_its_next_request(
    shared_service: RunningService, opened: Opened, analyst: Account, http: httpx.Client
) -> None:
    page = opened()
    sign_in(page, shared_service.url, analyst)
    elsewhere = Device(shared_service.url, http)
    elsewhere.login(analyst.username, analyst.password)

    assert elsewhere.post("/v1/logout-others").status_code == 200
    page.reload()

    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_session_that_is_held_goes_on_once_its_user_has_proved_themself(
    shared_service: RunningService, opened: Opened, analyst: Account, http: httpx.Client
) -> None:
    page = opened()
    sign_in(page, shared_service.url, analyst)
    admin = beside(add_user, shared_service, roles=(Role.ADMIN,))
    other = Device(shared_service.url, http)
    other.login(admin.username, admin.password)
    sessions = other.get(f"/v1/users/{analyst.user_id}/sessions").json()["sessions"]
    held = other.post(f"/v1/families/{sessions[0]['family_id']}/require-step-up")
    assert held.status_code == 204

    page.goto(shared_service.url + "/console/rules")
    expect(page.get_by_role("heading", name="Is it you?")).to_be_visible()
    page.get_by_label("Password").fill(analyst.password)
    page.get_by_role("button", name="Sign in").click()

    page.wait_for_url("**/console/rules")
    after = other.get(f"/v1/users/{analyst.user_id}/sessions").json()["sessions"]
    assert [one["session_id"] for one in after] == [one["session_id"] for one in sessions]


def test_two_tabs_that_come_back_after_the_token_ran_out_stay_signed_in(
    private_service: Callable[..., RunningService], chromium: Browser
) -> None:
    service = private_service(SESSIONTRAIL_ACCESS_LIFETIME="1")
    account = beside(add_user, service, roles=(Role.ANALYST,))
    with chromium.new_context() as context:
        page, other = context.new_page(), context.new_page()
        sign_in(page, service.url, account)
        first = {each["name"]: each["value"] for each in context.cookies()}
        began = page.evaluate("Date.now()")
        page.wait_for_function("began => Date.now() - began > 1100", arg=began)

        for _ in range(3):
            page.evaluate("url => { fetch(url); fetch(url); fetch(url) }", "/console/alerts")
            other.goto(service.url + "/console/alerts")
            expect(other.get_by_role("heading", name="Alerts")).to_be_visible()

        now = {each["name"]: each["value"] for each in context.cookies()}
        assert now["__Host-sessiontrail"] != first["__Host-sessiontrail"]


PAGES = [
    "/console/alerts",
    "/console/alerts?view=all",
    "/console/people",
    "/console/overview",
    "/console/overview?range=month",
    "/console/rules",
    "/console/rules/device-change",
    "/console/none",
    "/account",
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(
    shared_service: RunningService,
    opened: Opened,
    device: Callable[..., Device],
    victim: Device,
    scheme: str,
) -> None:
    admin = beside(add_user, shared_service, roles=(Role.ADMIN,))
    elsewhere = device(user_agent="curl/8.14.1")
    elsewhere.login(admin.username, admin.password)
    alert = alert_about(shared_service, victim)
    here = f"/console/alerts/{alert.alert_id}"
    page = opened(color_scheme=scheme)
    page.goto(shared_service.url + "/console/sign-in")
    found = {"/console/sign-in": violations(page)}
    sign_in(page, shared_service.url, admin)
    person = f"/console/people/{victim.session['user_id']}"
    report = f"/account/report/{elsewhere.session['session_id']}"

    for path in [
        *PAGES,
        *(here, f"{here}/revoke", f"{here}/allow"),
        *(person, f"{person}/revoke", report),
    ]:
        page.goto(shared_service.url + path)
        found[path] = violations(page)

    assert {path: each for path, each in found.items() if each} == {}


def test_no_secret_is_in_the_log(shared_service: RunningService) -> None:
    assert shared_service.stop() == 0
    assert_no_secret_in(shared_service.log())
    assert "Traceback" not in shared_service.log()
