"""Two analysts at once, sessions that end, keys that are held: nothing is lost, nothing slips."""

import itertools
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from playwright.sync_api import Page, expect

from domain.alert import Alert
from domain.alert_reports import REPORTED
from domain.events.users import Role
from domain.ids import FamilyId, UserId
from tests.alerts import raised
from tests.e2e.accounts import Account, add_user
from tests.e2e.alerts import raise_alert
from tests.e2e.browsing import Opened, beside, needs_chromium, sign_in
from tests.e2e.clients import Device
from tests.e2e.service import RunningService, command

pytestmark = needs_chromium

Colleague = Callable[[str, dict[str, str]], None]
NOTE = "seen it with my own eyes"


@pytest.fixture
def analyst(shared_service: RunningService) -> Account:
    return beside(add_user, shared_service, roles=(Role.ANALYST,))


@pytest.fixture
def alert(shared_service: RunningService, victim: Device) -> Alert:
    event = raised(
        user_id=UserId(victim.session["user_id"]), family_id=FamilyId(victim.session["family_id"])
    )
    return beside(raise_alert, shared_service, event)


@pytest.fixture
def page(shared_service: RunningService, opened: Opened, analyst: Account, alert: Alert) -> Page:
    """The alert's page, live."""
    shown = opened()
    sign_in(shown, shared_service.url, analyst, f"/console/alerts/{alert.alert_id}")
    expect(shown.get_by_text("Live", exact=True)).to_be_visible()
    return shown


@pytest.fixture
def colleague(
    shared_service: RunningService, device: Callable[..., Device], alert: Alert
) -> Colleague:
    """Another analyst, who does something about the alert elsewhere."""
    account, client = beside(add_user, shared_service, roles=(Role.ANALYST,)), device()
    client.login(account.username, account.password)

    def act(deed: str, body: dict[str, str]) -> None:
        answer = client.post(f"/v1/alerts/{alert.alert_id}/{deed}", body)
        assert answer.status_code == httpx.codes.OK, answer.text

    return act


def hold_enter(page: Page) -> None:
    """Press Enter, and let go only after the next page has long been there."""
    session = page.context.new_cdp_session(page)
    for repeats in itertools.chain([False], [True] * 8):
        pressed = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        session.send(
            "Input.dispatchKeyEvent", {"type": "keyDown", "autoRepeat": repeats, **pressed}
        )
        if not repeats:
            page.wait_for_url("**/revoke**")
            page.wait_for_load_state()
    session.send("Input.dispatchKeyEvent", {"type": "keyUp", "key": "Enter", "code": "Enter"})


def test_a_key_that_is_held_asks_and_does_not_answer(
    shared_service: RunningService, page: Page, victim: Device
) -> None:
    page.goto(f"{shared_service.url}/console/people/{victim.session['user_id']}")
    page.keyboard.press("j")

    hold_enter(page)

    expect(page.get_by_role("button", name="Revoke")).to_be_focused()
    assert victim.refresh().status_code == httpx.codes.OK
    page.keyboard.press("Enter")
    expect(page.get_by_text("Revoked. The next refresh")).to_be_visible()


def test_without_scripts_the_button_that_revokes_has_not_got_the_focus(
    shared_service: RunningService, opened: Opened, analyst: Account, alert: Alert
) -> None:
    plain = opened(java_script_enabled=False)

    sign_in(plain, shared_service.url, analyst, f"/console/alerts/{alert.alert_id}/revoke")

    expect(plain.get_by_role("button", name="Revoke")).not_to_be_focused()


def test_a_colleague_is_seen_at_work_and_the_page_stays_live(
    page: Page, colleague: Colleague
) -> None:
    colleague("acknowledge", {})
    expect(page.get_by_text("Being looked into")).to_be_visible()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()

    colleague("resolve", {"verdict": "benign"})

    expect(page.get_by_text("Happened, and was meant to", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Resolve")).to_have_count(0)
    expect(page.get_by_role("button", name="Reopen")).to_be_visible()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()


def test_what_a_colleague_does_takes_nothing_from_under_the_hands(
    page: Page, colleague: Colleague
) -> None:
    page.get_by_label("Attack").check()
    page.get_by_text("Assign to somebody").click()

    colleague("acknowledge", {})
    expect(page.get_by_text("Being looked into")).to_be_visible()
    assignee = page.get_by_label("Whose it is")
    assignee.focus()
    colleague("comment", {"comment": NOTE})
    expect(page.locator(".said")).to_have_text(NOTE)

    expect(page.get_by_label("Attack")).to_be_checked()
    expect(assignee).to_be_focused()


def test_what_was_typed_outlives_a_colleague_who_was_faster(
    page: Page, alert: Alert, colleague: Colleague
) -> None:
    page.get_by_label("Comment (may stay empty)").fill(NOTE)
    colleague("resolve", {"verdict": "benign"})
    expect(page.get_by_role("button", name="Reopen")).to_be_visible()

    page.get_by_label("Attack").check()
    page.get_by_role("button", name="Resolve").click()

    expect(page.get_by_role("alert")).to_contain_text("things have changed meanwhile")
    expect(page.get_by_label("Add a comment")).to_have_value(NOTE)
    page.wait_for_url(f"**/console/alerts/{alert.alert_id}")
    page.get_by_role("button", name="Comment").click()
    expect(page.locator(".said")).to_have_text(NOTE)


def test_only_a_verdict_offers_to_be_undone(page: Page) -> None:
    page.get_by_label("Attack").check()
    page.get_by_role("button", name="Resolve").click()
    undo = (
        page.get_by_role("status").filter(has_text="Resolved.").get_by_role("button", name="Undo")
    )
    expect(undo).to_be_visible()

    page.get_by_label("Add a comment").fill(NOTE)
    page.get_by_role("button", name="Comment").click()

    expect(page.get_by_text("Your comment is on record.")).to_be_visible()
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)


def test_what_was_typed_outlives_the_end_of_the_session(
    shared_service: RunningService, page: Page, analyst: Account, colleague: Colleague
) -> None:
    page.get_by_label("Add a comment").fill(NOTE)
    page.context.clear_cookies()
    with page.expect_response("**/console/sign-in**"):
        colleague("acknowledge", {})
    expect(page.get_by_label("Add a comment")).to_have_value(NOTE)

    other_tab = page.context.new_page()
    sign_in(other_tab, shared_service.url, analyst)
    with page.expect_response("**/console/alerts/*-*"):
        colleague("comment", {"comment": "somebody there?"})
    page.get_by_role("button", name="Comment").click()

    expect(page.get_by_text("Your comment is on record.")).to_be_visible()
    expect(page.locator(".said").filter(has_text=NOTE)).to_be_visible()


def test_a_form_of_a_session_that_ended_leads_back_to_its_page(
    page: Page, alert: Alert, analyst: Account
) -> None:
    page.get_by_label("Add a comment").fill(NOTE)
    page.context.clear_cookies()
    page.get_by_role("button", name="Comment").click()
    expect(page.get_by_text("Your session had ended: nothing was done.")).to_be_visible()

    page.get_by_label("User name").fill(analyst.username)
    page.get_by_label("Password").fill(analyst.password)
    page.get_by_role("button", name="Sign in").click()

    page.wait_for_url(f"**/console/alerts/{alert.alert_id}")


def test_a_notice_is_said_once_and_not_because_a_link_says_so(
    shared_service: RunningService, page: Page
) -> None:
    page.get_by_role("button", name="Take it").click()
    expect(page.get_by_text("Assigned.", exact=True)).to_be_visible()

    page.reload()
    expect(page.get_by_text("Assigned.", exact=True)).to_have_count(0)
    page.goto(f"{shared_service.url}/account?did=password")

    expect(page.get_by_role("heading", name="Your devices")).to_be_visible()
    expect(page.get_by_text("The password is changed.")).to_have_count(0)


def test_what_went_wrong_leaves_the_way_back_and_the_navigation(page: Page, alert: Alert) -> None:
    page.get_by_label("Add a comment").fill(NOTE)
    page.locator("input[name=form_token]").evaluate_all(
        "all => all.forEach(one => one.value = 'x')"
    )
    page.get_by_role("button", name="Comment").click()

    expect(page.get_by_role("heading", name="This form did not come from here")).to_be_visible()
    expect(page.get_by_role("navigation", name="Console")).to_be_visible()
    page.get_by_role("link", name="Back to where you were").click()
    page.wait_for_url(f"**/console/alerts/{alert.alert_id}")


def test_several_are_acknowledged_and_it_is_said_where_somebody_was_faster(
    shared_service: RunningService, opened: Opened, analyst: Account, colleague: Colleague
) -> None:
    mine = beside(raise_alert, shared_service, raised())
    page = opened(java_script_enabled=False)
    sign_in(page, shared_service.url, analyst)
    for box in page.get_by_role("checkbox").all():
        box.check()
    colleague("acknowledge", {})

    page.get_by_role("button", name="Acknowledge selected").click()

    expect(page.get_by_text("Somebody was faster with the rest.")).to_be_visible()
    assert page.locator(f'[data-id="{mine.alert_id}"]').get_by_role("checkbox").count() == 0


def test_what_people_report_is_a_kind_to_filter_by(
    shared_service: RunningService, page: Page
) -> None:
    reported = beside(raise_alert, shared_service, raised(rule=REPORTED))
    page.goto(f"{shared_service.url}/console/alerts")

    page.get_by_label("Rule").select_option("The user says it wasn’t them")
    page.get_by_role("button", name="Filter").click()

    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator(f'[data-id="{reported.alert_id}"]')).to_be_visible()


def test_a_clock_that_is_wrong_makes_nothing_older(
    shared_service: RunningService, opened: Opened, analyst: Account
) -> None:
    page = opened()
    page.clock.install(time=datetime.now(UTC) + timedelta(hours=3))
    sign_in(page, shared_service.url, analyst, "/account")

    page.clock.run_for(11_000)

    expect(page.get_by_text(re.compile(r"^1\d s ago$")).first).to_be_visible()
    expect(page.get_by_text("3 h ago")).to_have_count(0)


def test_nothing_is_allowed_of_somebody_who_was_erased(
    shared_service: RunningService, page: Page, alert: Alert
) -> None:
    erased = command(shared_service.environment, "users", "erase", str(alert.user_id), "--yes")
    assert erased.returncode == 0, erased.stderr

    page.get_by_role("link", name="Allow-list …").click()

    expect(page.get_by_text("nothing is known any more that could be allowed")).to_be_visible()
    expect(page.get_by_role("button", name="Put on the allow-list")).to_have_count(0)
    page.get_by_role("main").get_by_role("link", name="Back to the alert").last.click()
    expect(page.get_by_label("Add a comment")).to_have_count(0)
