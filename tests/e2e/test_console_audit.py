"""The console's audit pages in a real browser: time travel, events and proofs, exports."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from audit.checkpoints import open_checkpoint
from audit.signed_notes import parse_verifier
from audit.tlog_proofs import parse_proof
from domain.events.users import Role
from tests.alerts import raised
from tests.e2e.accounts import Account, add_user
from tests.e2e.alerts import raise_alert
from tests.e2e.browsing import Opened, beside, needs_chromium, sign_in, violations
from tests.e2e.clients import Device, assert_no_secret_in
from tests.e2e.service import RunningService, command
from tests.e2e.signing import public_key, signing_service, wait_for_all_signed
from tests.e2e.visiting import Visitor, Visitors

pytestmark = needs_chromium

AUDIT = "/console/audit"
PATHS = [AUDIT, f"{AUDIT}/diff", f"{AUDIT}/events/leaf:2", f"{AUDIT}/exports"]


@pytest.fixture(scope="module")
def shared_service(
    module_conninfo: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    """In place of the plain one: a service whose log is signed as it grows."""
    with signing_service(tmp_path_factory.mktemp("data"), module_conninfo) as running:
        yield running


@pytest.fixture
def auditor(shared_service: RunningService) -> Account:
    return beside(add_user, shared_service, roles=(Role.AUDITOR,))


@pytest.fixture
def all_signed(shared_service: RunningService, module_conninfo: str) -> Callable[[], None]:
    """Waits until every event that there is now is under a signed head."""
    return partial(wait_for_all_signed, shared_service, module_conninfo)


def now() -> str:
    return datetime.now(UTC).isoformat()


def revoke_in(page: Page, url: str, victim: Device) -> None:
    page.goto(f"{url}/console/people/{victim.session['user_id']}/revoke")
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("Revoked. The next refresh")).to_be_visible()


def show(page: Page, moment: str) -> None:
    page.get_by_label("Moment").fill(moment)
    page.get_by_role("button", name="Show").click()


def line_of(page: Page, victim: Device) -> Locator:
    return page.locator(f'[data-id="{victim.session["session_id"]}"]')


@pytest.mark.parametrize("scripts", [True, False], ids=["with-scripts", "without-scripts"])
def test_an_auditor_travels_to_before_and_after_a_revocation(
    shared_service: RunningService, opened: Opened, victim: Device, *, scripts: bool
) -> None:
    page = opened(java_script_enabled=scripts)
    both = beside(add_user, shared_service, roles=(Role.ANALYST, Role.AUDITOR))
    before = now()
    sign_in(page, shared_service.url, both)
    revoke_in(page, shared_service.url, victim)
    after = now()

    page.get_by_role("link", name="Audit", exact=True).click()
    page.get_by_label("User id").fill(victim.session["user_id"])
    show(page, before)
    expect(line_of(page, victim).get_by_text("live", exact=True)).to_be_visible()
    show(page, after)
    expect(line_of(page, victim).get_by_text("ended by the security team")).to_be_visible()

    address = f"since={before}&until={after}&user={victim.session['user_id']}".replace("+", "%2B")
    page.goto(f"{shared_service.url}{AUDIT}/diff?{address}")
    changed = line_of(page, victim)
    expect(changed.get_by_text("Session changed")).to_be_visible()
    expect(changed.get_by_text("ended", exact=True)).to_be_visible()


def test_the_slider_writes_the_moment_and_is_not_there_without_scripts(
    shared_service: RunningService, opened: Opened, auditor: Account
) -> None:
    page, plain = opened(), opened(java_script_enabled=False)
    for each in (page, plain):
        sign_in(each, shared_service.url, auditor, AUDIT)
    moment = page.get_by_label("Moment")
    written = moment.input_value()

    page.get_by_role("slider").click(position={"x": 3, "y": 8})

    assert moment.input_value() < written
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("heading", name="Sessions as of")).to_be_visible()
    expect(plain.get_by_role("slider")).to_be_hidden()
    expect(plain.get_by_label("Moment")).to_be_visible()


def test_the_sessions_follow_the_slider_and_so_does_the_address(
    shared_service: RunningService, opened: Opened, auditor: Account
) -> None:
    page = opened()
    sign_in(page, shared_service.url, auditor, AUDIT)
    page.evaluate("window.stayed = true")
    slider = page.get_by_role("slider")
    first = datetime.fromtimestamp(int(slider.get_attribute("min") or ""), UTC)

    slider.press("Home")

    expect(
        page.get_by_role("heading", name=f"Sessions as of {first:%Y-%m-%d %H:%M:%S}")
    ).to_be_visible()
    page.wait_for_url(f"**{AUDIT}?as_of={first:%Y-%m-%dT%H%%3A%M%%3A%SZ}&user=")
    assert page.evaluate("window.stayed"), "the page was loaded again"
    expect(slider).to_be_focused()


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (f"{AUDIT}?as_of=2026-11-26", "Moment: an instant needs an offset or Z"),
        (f"{AUDIT}?as_of=leaf:99999999", "The tree has no leaf 99999999 so far."),
        (f"{AUDIT}?user=ada", "User is not an id."),
        (f"{AUDIT}/diff?since=yesterday", "From: give an instant with its offset"),
    ],
    ids=["no-offset", "no-such-leaf", "no-id", "no-moment"],
)
def test_what_was_asked_wrongly_is_told_beside_the_form(
    shared_service: RunningService, opened: Opened, auditor: Account, path: str, told: str
) -> None:
    page = opened()
    sign_in(page, shared_service.url, auditor, AUDIT)

    page.goto(shared_service.url + path)

    expect(page.get_by_role("alert")).to_contain_text(told)
    typed = path.partition("=")[2]
    field = page.get_by_role("search").locator(f"input[value='{typed}']")
    expect(field).to_be_visible()
    assert violations(page) == []


def test_an_export_that_was_asked_wrongly_keeps_what_was_typed(
    shared_service: RunningService, opened: Opened, auditor: Account
) -> None:
    page = opened()
    sign_in(page, shared_service.url, auditor, f"{AUDIT}/exports")
    page.get_by_label("From").fill("yesterday")
    page.get_by_label("Why what is personal").fill("case 12")

    page.get_by_role("button", name="Export").click()

    expect(page.get_by_role("alert")).to_contain_text("Since: give an instant")
    expect(page.get_by_label("From")).to_have_value("yesterday")
    expect(page.get_by_label("Why what is personal")).to_have_value("case 12")


def test_an_auditor_goes_from_a_person_to_their_past(
    shared_service: RunningService, opened: Opened, auditor: Account, victim: Device
) -> None:
    page = opened()
    sign_in(page, shared_service.url, auditor, f"/console/people/{victim.session['user_id']}")

    page.get_by_role("link", name="Their sessions in the past").click()

    expect(line_of(page, victim).get_by_text("live", exact=True)).to_be_visible()
    expect(page.get_by_label("User id")).to_have_value(victim.session["user_id"])


def test_a_difference_about_nobody_leads_to_nobody(
    shared_service: RunningService, opened: Opened, auditor: Account
) -> None:
    alert = beside(raise_alert, shared_service, raised())
    page = opened()
    sign_in(page, shared_service.url, auditor, f"{AUDIT}/diff")

    line = page.locator(f'[data-id="{alert.alert_id}"]')

    expect(line.get_by_text("nobody in particular")).to_be_visible()
    expect(line.get_by_role("link")).to_have_count(0)


def test_events_are_walked_and_proved(
    shared_service: RunningService, opened: Opened, auditor: Account, all_signed: Callable[[], None]
) -> None:
    all_signed()
    page = opened()
    sign_in(page, shared_service.url, auditor, f"{AUDIT}?as_of=leaf:1")

    page.get_by_role("link", name="One event on").click()
    page.get_by_role("link", name="One event on").click()
    page.get_by_role("link", name="One event back").click()
    page.get_by_role("link", name="The event there: leaf 2").click()
    page.get_by_role("link", name="Next event").click()
    page.get_by_role("link", name="Previous event").click()
    page.wait_for_url("**/events/leaf:2")
    page.get_by_role("button", name="Verify again").click()

    key = public_key(shared_service)
    expect(page.get_by_text("Yes. These bytes")).to_contain_text(
        "the log’s key has signed that head"
    )
    expect(page.get_by_text(key, exact=True)).to_be_visible()
    expect(page.get_by_text("Whoever does not trust this service")).to_be_visible()
    proof = parse_proof(page.get_by_label("The proof, to copy").input_value())
    assert proof.index == 2
    assert open_checkpoint(proof.note, parse_verifier(key)).size > 2
    page.goto(f"{shared_service.url}{AUDIT}/events/leaf:99999999")
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()


def test_an_instant_leads_to_the_last_event_before_it(
    shared_service: RunningService, opened: Opened, auditor: Account, all_signed: Callable[[], None]
) -> None:
    page = opened()
    sign_in(page, shared_service.url, auditor, AUDIT)
    all_signed()
    page.goto(f"{shared_service.url}{AUDIT}/events/leaf:3")
    raw = page.locator("pre").inner_text()
    micros = int(raw.partition('"occurred_at": ')[2].partition(",")[0])
    at = datetime.fromtimestamp(micros / 1_000_000, UTC)

    page.goto(f"{shared_service.url}{AUDIT}")
    show(page, at.isoformat())

    expect(page.get_by_role("link", name="The event there: leaf 3", exact=True)).to_be_visible()


@pytest.mark.parametrize("scripts", [True, False], ids=["with-scripts", "without-scripts"])
def test_an_export_is_downloaded_and_verified(
    shared_service: RunningService,
    opened: Opened,
    auditor: Account,
    victim: Device,
    all_signed: Callable[[], None],
    tmp_path: Path,
    *,
    scripts: bool,
) -> None:
    all_signed()
    page = opened(java_script_enabled=scripts)
    sign_in(page, shared_service.url, auditor, AUDIT)

    page.get_by_role("link", name="Exports").click()
    page.get_by_label("User id").fill(victim.session["user_id"])
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    path = tmp_path / "export.jsonl"
    download.value.save_as(path)

    assert download.value.suggested_filename.endswith(".jsonl")
    assert b"SessionStarted" in path.read_bytes()
    key = public_key(shared_service)
    done = command(shared_service.environment, "audit", "verify-export", str(path), "--key", key)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("role", [Role.ANALYST, Role.ADMIN])
def test_the_audit_is_for_auditors_alone_on_pages_as_over_http(
    shared_service: RunningService,
    http: httpx.Client,
    visitor: Visitors,
    all_signed: Callable[[], None],
    role: Role,
) -> None:
    account = beside(add_user, shared_service, roles=(role,))
    other, auditor = Visitor(shared_service.url, http), visitor(Role.AUDITOR)
    other.sign_in(account)
    device = Device(shared_service.url, http)
    device.login(account.username, account.password)
    all_signed()

    refused = [other.get(path) for path in PATHS]
    export = other.send(f"{AUDIT}/exports", {"form_token": other.token(), "format": "jsonl"})

    assert [answer.status_code for answer in refused] == [403] * len(PATHS)
    assert all("this needs the role auditor" in answer.text for answer in refused)
    assert AUDIT not in other.get("/console/people").text
    assert export.status_code == 403
    assert device.post("/v1/audit/exports", {}).status_code == 403
    assert device.get("/v1/audit/proofs/inclusion?event=leaf:2").status_code == 403
    assert [auditor.get(path).status_code for path in PATHS] == [200] * len(PATHS)
    assert AUDIT in auditor.get("/console/people").text


def test_what_is_not_right_is_refused_on_a_page_and_a_forged_form_too(visitor: Visitors) -> None:
    one = visitor(Role.AUDITOR)
    token = one.token()

    pages = [
        one.get(f"{AUDIT}?as_of=yesterday"),
        one.get(f"{AUDIT}?user=nobody"),
        one.get(f"{AUDIT}/diff?since=2026-01-01"),
        one.get(f"{AUDIT}/events/x"),
        one.send(f"{AUDIT}/exports", {"form_token": token, "format": "parquet"}),
        one.send(f"{AUDIT}/exports", {"form_token": token, "since": "leaf:1"}),
    ]
    forged = one.send(f"{AUDIT}/exports", {"form_token": "x" * 43, "format": "jsonl"})

    assert [answer.status_code for answer in pages] == [422] * len(pages)
    told = ('role="alert"', "Something in it is not acceptable")
    assert all(any(words in answer.text for words in told) for answer in pages)
    assert forged.status_code == 403


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(
    shared_service: RunningService,
    opened: Opened,
    auditor: Account,
    victim: Device,
    all_signed: Callable[[], None],
    scheme: str,
) -> None:
    victim.refresh()
    all_signed()
    page = opened(color_scheme=scheme)
    sign_in(page, shared_service.url, auditor, AUDIT)
    found = {}

    for path in PATHS:
        page.goto(shared_service.url + path)
        found[path] = violations(page)

    assert {path: each for path, each in found.items() if each} == {}


def test_no_secret_is_in_the_log(shared_service: RunningService) -> None:
    assert shared_service.stop() == 0
    assert_no_secret_in(shared_service.log())
    assert "Traceback" not in shared_service.log()
