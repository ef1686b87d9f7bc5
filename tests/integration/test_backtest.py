"""The back-test: stored history through the rules, beside the verdicts, changing nothing."""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from detector.backtest import BacktestReport
from domain.alert import Alert
from domain.detection import Verdict
from domain.detection_policy import NO_POLICY, DetectionPolicy, RuleSettings
from domain.events.alerts import AlertReopened, AlertResolved
from domain.events.envelope import NewEvent
from domain.events.personal import Personal
from infra.history import count_history, read_history
from infra.postgres import transaction
from infra.projection_leftovers import PERSONAL_LEFTOVERS
from infra.refresh_lanes import RefreshLanes
from infra.schema import metadata
from infra.sealing import DataKeys, MasterKeys
from infra.service_keys import ServiceKeyStore
from infra.sign_in_failures import SignInFailureCounter
from infra.signing_keys import SigningKeyStore
from infra.user_commands import PostgresUserCommands
from sessiontrail.commands.backtest import played
from sessiontrail.commands.simulate import policy_from
from sessiontrail.store import Store
from tests.alerts import put, raise_alert, raised
from tests.integration.accounts import PHONE, Accounts, SignedIn, at_work, present

REUSE = "refresh-token-reuse"


@pytest.fixture
def opened(engine: AsyncEngine, data_keys: DataKeys, masters: MasterKeys) -> Store:
    return Store(
        engine,
        data_keys,
        PostgresUserCommands(engine, data_keys),
        SigningKeyStore(engine, masters),
        ServiceKeyStore(engine, masters),
    )


@pytest.fixture
async def lanes(conninfo: str, data_keys: DataKeys) -> AsyncIterator[RefreshLanes]:
    async with at_work(RefreshLanes(conninfo, data_keys, lanes=1)) as working:
        yield working


@pytest.fixture
def accounts(engine: AsyncEngine, data_keys: DataKeys) -> Accounts:
    return Accounts(engine, data_keys)


async def robbed(accounts: Accounts, lanes: RefreshLanes) -> SignedIn:
    """A session whose replaced token came back."""
    signed_in = await accounts.sign_in()
    await present(lanes, signed_in.token)
    await present(lanes, signed_in.token, client=PHONE)
    return signed_in


async def alert_about(opened: Store, signed_in: SignedIn, verdict: Verdict | None = None) -> Alert:
    """An alert that was raised about a family, and what an analyst said of it."""
    told = raised(user_id=signed_in.user.user_id, family_id=signed_in.family_id, rule="by hand")
    alert = await raise_alert(opened.engine, opened.data_keys, told)
    if verdict is not None:
        resolved = AlertResolved(verdict=verdict, family_id=signed_in.family_id)
        await put(opened.engine, opened.data_keys, alert.alert_id, NewEvent(resolved))
    return alert


async def backtest(
    opened: Store, policy: DetectionPolicy = NO_POLICY, since: datetime | None = None
) -> BacktestReport:
    return await played(opened, policy, since)


async def test_what_the_rules_would_have_found_is_told(
    opened: Store, accounts: Accounts, lanes: RefreshLanes
) -> None:
    await robbed(accounts, lanes)
    await accounts.sign_in()

    report = await backtest(opened)

    assert report.users == 2
    assert report.rules[REUSE].findings == 1
    assert report.rules[REUSE].alerts == 1
    assert report.rules[REUSE].precision is None
    assert (report.true_positives, report.recall) == (0, None)


async def test_a_true_positive_that_is_found_counts_for_precision_and_recall(
    opened: Store, accounts: Accounts, lanes: RefreshLanes
) -> None:
    await alert_about(opened, await robbed(accounts, lanes), Verdict.TRUE_POSITIVE)
    await alert_about(opened, await accounts.sign_in(), Verdict.TRUE_POSITIVE)  # not found

    report = await backtest(opened)

    assert report.rules[REUSE].precision == 1.0
    assert (report.true_positives, report.caught, report.recall) == (2, 1, 0.5)


@pytest.mark.parametrize("verdict", [Verdict.FALSE_POSITIVE, Verdict.BENIGN])
async def test_what_analysts_cleared_counts_against_precision(
    opened: Store, accounts: Accounts, lanes: RefreshLanes, verdict: Verdict
) -> None:
    await alert_about(opened, await robbed(accounts, lanes), verdict)
    await alert_about(opened, await robbed(accounts, lanes), Verdict.TRUE_POSITIVE)

    report = await backtest(opened)

    record = report.rules[REUSE]
    assert (record.alerts, record.confirmed, record.refuted) == (2, 1, 1)
    assert record.precision == 0.5
    assert report.true_positives == 1


async def test_a_verdict_that_was_taken_back_counts_no_more(
    opened: Store, accounts: Accounts, lanes: RefreshLanes
) -> None:
    signed_in = await robbed(accounts, lanes)
    alert = await alert_about(opened, signed_in, Verdict.TRUE_POSITIVE)
    await put(opened.engine, opened.data_keys, alert.alert_id, NewEvent(AlertReopened()))

    report = await backtest(opened)

    assert report.rules[REUSE].precision is None
    assert report.true_positives == 0


async def test_a_verdict_about_a_source_is_matched_by_its_network(
    opened: Store, accounts: Accounts
) -> None:
    failures = SignInFailureCounter(opened.engine, opened.data_keys, os.urandom(32))
    for _ in range(40):
        user = await accounts.user()
        failures.note("198.51.100.0/24", user.user_id, limited=False)
    await failures.flush()
    told = raised(rule="credential-stuffing")
    told = NewEvent(told.event, Personal(networks=["198.51.100.0/24"]))
    alert = await raise_alert(opened.engine, opened.data_keys, told)
    resolved = NewEvent(AlertResolved(verdict=Verdict.TRUE_POSITIVE))
    await put(opened.engine, opened.data_keys, alert.alert_id, resolved)

    report = await backtest(opened)

    assert report.rules["credential-stuffing"].confirmed == 1
    assert report.recall == 1.0


async def test_another_policy_finds_something_else(
    opened: Store, accounts: Accounts, lanes: RefreshLanes, tmp_path: Path
) -> None:
    await alert_about(opened, await robbed(accounts, lanes), Verdict.TRUE_POSITIVE)
    file = tmp_path / "policy.json"
    file.write_text('{"rules": {"refresh-token-reuse": {"response": "record"}}}')

    silent = await backtest(
        opened, DetectionPolicy(version=1, rules={REUSE: RuleSettings(enabled=False)})
    )
    milder = await backtest(opened, policy_from(file).detection)

    assert REUSE not in silent.rules
    assert silent.recall == 0.0
    assert (milder.rules[REUSE].findings, milder.rules[REUSE].alerts) == (1, 0)


async def test_history_before_the_chosen_instant_is_not_played(
    opened: Store, accounts: Accounts, lanes: RefreshLanes
) -> None:
    await alert_about(opened, await robbed(accounts, lanes), Verdict.TRUE_POSITIVE)

    report = await backtest(opened, since=datetime.now(UTC) + timedelta(hours=1))

    assert (report.events, report.users, report.rules) == (0, 0, {})
    assert (report.days, report.alerts_per_1000_users_a_day) == (0.0, None)


async def test_a_verdict_on_an_alert_from_before_does_not_count(
    opened: Store, accounts: Accounts, lanes: RefreshLanes
) -> None:
    signed_in = await robbed(accounts, lanes)
    alert = await alert_about(opened, signed_in)
    since = await _clock(opened)
    resolved = AlertResolved(verdict=Verdict.TRUE_POSITIVE, family_id=signed_in.family_id)
    await put(opened.engine, opened.data_keys, alert.alert_id, NewEvent(resolved))

    report = await backtest(opened, since=since)

    assert report.events == 1
    assert (report.true_positives, report.recall) == (0, None)


async def test_who_was_erased_is_played_without_their_client(
    opened: Store, accounts: Accounts, lanes: RefreshLanes
) -> None:
    signed_in = await robbed(accounts, lanes)
    async with transaction(opened.engine) as connection:
        await connection.execute(
            "DELETE FROM data_keys WHERE subject_id = %s", (signed_in.user.user_id,)
        )

    report = await backtest(opened)

    assert report.rules[REUSE].findings == 1


async def test_nothing_is_changed(opened: Store, accounts: Accounts, lanes: RefreshLanes) -> None:
    await alert_about(opened, await robbed(accounts, lanes), Verdict.TRUE_POSITIVE)
    before = await _everything(opened)

    await backtest(opened)

    assert await _everything(opened) == before


async def test_an_empty_log_has_no_figures(opened: Store) -> None:
    report = await backtest(opened)

    assert (report.events, report.users, report.recall) == (0, 0, None)


@pytest.mark.parametrize("page_size", [1, 2, 1000])
async def test_history_comes_whole_and_in_order_whatever_its_pages(
    opened: Store, accounts: Accounts, lanes: RefreshLanes, page_size: int
) -> None:
    await robbed(accounts, lanes)
    types = ["SessionStarted", "RefreshTokenRotated", "RefreshTokenReused", "FamilyRevoked"]

    pages = [
        page
        async for page in read_history(
            opened.engine, opened.data_keys, types, None, page_size=page_size
        )
    ]

    assert [event.event.TYPE for page in pages for event in page] == types
    assert max(map(len, pages)) <= page_size
    assert await count_history(opened.engine, types, None) == 4


async def _clock(opened: Store) -> datetime:
    async with transaction(opened.engine) as connection:
        cursor = await connection.execute("SELECT clock_timestamp()", binary=True)
        row = await cursor.fetchone()
    assert row is not None
    now: datetime = row[0]
    return now


_OWNERS_TABLES = {"rebuild_progress", *PERSONAL_LEFTOVERS}


async def _everything(opened: Store) -> dict[str, tuple[int, str]]:
    """How many rows each table has that the service may read, and what they say."""
    found = {}
    async with transaction(opened.engine) as connection:
        for table in sorted(metadata.tables.keys() - _OWNERS_TABLES):
            cursor = await connection.execute(
                f"SELECT count(*), coalesce(md5(string_agg(t::text, '' ORDER BY t::text)), '')"
                f" FROM {table} t".encode()
            )
            row = await cursor.fetchone()
            assert row is not None
            found[table] = (row[0], row[1])
    return found
