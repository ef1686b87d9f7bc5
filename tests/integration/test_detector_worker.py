"""The detector's worker on a real database: from an event to its alert and what follows."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from psycopg.types.json import Jsonb
from sqlalchemy.ext.asyncio import AsyncEngine

from detector.memory import Scope, decode_state
from detector.profile import UserProfile
from domain.alert import Alert, AlertStatus
from domain.alert_decisions import Resolve
from domain.client import ClientContext
from domain.detection import Outcome, Response, Verdict
from domain.detection_policy import RuleSettings
from domain.detection_policy_decisions import AllowList, ConfigureRule, DetectionPolicyCommand
from domain.detection_work import Stage
from domain.events.detection_policies import AllowedKind
from domain.events.envelope import RecordedEvent
from domain.ids import AlertId, FamilyId, Stream, UserId, family_stream
from domain.refresh_token import RefreshToken
from domain.refusals import Refusal
from infra.alert_commands import PostgresAlertCommands
from infra.alert_store import load_alerts
from infra.detection_policy_store import DetectionPolicyStore
from infra.detector_lag import DetectorLag, lag_s
from infra.detector_metrics import DetectorMetrics
from infra.ids import new_uuid
from infra.postgres import transaction
from infra.refresh_lanes import RefreshLanes
from infra.sealing import DataKeys, MasterKeys
from infra.tail import read_stream
from sessiontrail.detector import rule_parameters, types_read
from tests.detector_history import FIREFOX, IPHONE, insert_events, stuffing
from tests.integration.accounts import Accounts, SignedIn, at_work, cause, present
from tests.integration.detecting import all_judged, detecting, eventually

OWNER = ClientContext(ip="203.0.113.7", user_agent=FIREFOX)
THIEF = ClientContext(ip="198.51.100.9", user_agent=IPHONE)
DEVICE_CHANGE = "device-change"
REUSE = "refresh-token-reuse"


@dataclass(slots=True)
class World:
    """A database with users on it, and a detector to be let loose."""

    conninfo: str
    owner_conninfo: str
    engine: AsyncEngine
    data_keys: DataKeys
    masters: MasterKeys

    @property
    def accounts(self) -> Accounts:
        return Accounts(self.engine, self.data_keys)

    @asynccontextmanager
    async def requests(self) -> AsyncIterator[RefreshLanes]:
        async with at_work(RefreshLanes(self.conninfo, self.data_keys)) as lanes:
            yield lanes

    async def refresh(self, session: SignedIn, client: ClientContext = OWNER) -> SignedIn:
        async with self.requests() as lanes:
            token = await present(lanes, session.token, client=client)
        assert isinstance(token, RefreshToken), token
        return SignedIn(session.family_id, session.user, token)

    async def robbed(self) -> SignedIn:
        """A session whose token a thief uses from another device in another network."""
        session = await self.accounts.sign_in(client=OWNER)
        return await self.refresh(await self.refresh(session), client=THIEF)

    async def judge(self, metrics: DetectorMetrics | None = None) -> None:
        """Let a detector work until nothing is left to do."""
        async with detecting(self.conninfo, self.masters, metrics):
            await all_judged(self.conninfo)

    async def alerts(self) -> list[Alert]:
        async with transaction(self.engine) as connection:
            cursor = await connection.execute(
                "SELECT alert_id FROM alerts ORDER BY raised_at, alert_id", binary=True
            )
            ids = [AlertId(row[0]) for row in await cursor.fetchall()]
            loaded = await load_alerts(connection, ids)
        return [loaded[alert_id].alert for alert_id in ids]

    async def alert_of(self, rule: str) -> Alert:
        """The one alert of a rule."""
        (alert,) = [each for each in await self.alerts() if each.rule == rule]
        return alert

    async def stream(self, stream: Stream) -> list[RecordedEvent]:
        async with transaction(self.engine) as connection:
            return await read_stream(connection, stream)

    def family(self, family_id: FamilyId) -> list[str]:
        """What happened to a family."""
        stream = family_stream(family_id)
        rows = self.sql("SELECT type FROM events WHERE stream = %s ORDER BY version", stream)
        return [str(row[0]) for row in rows]

    async def set(self, command: DetectionPolicyCommand) -> None:
        """Set the policy."""
        store = DetectionPolicyStore(self.engine, self.data_keys)
        decision = await store.command(command, rule_parameters(), cause())
        assert decision.refusal is None, decision

    async def profile(self, user_id: UserId) -> UserProfile:
        async with transaction(self.engine) as connection:
            cursor = await connection.execute(
                "SELECT state FROM detector_states WHERE scope = %s AND key = %s",
                (int(Scope.PROFILE), user_id),
            )
            (record,) = await cursor.fetchall()
        profile = decode_state(Scope.PROFILE, record[0])
        assert isinstance(profile, UserProfile)
        return profile

    def sql(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """What a superuser does; the log's guard is off."""
        with psycopg.connect(self.owner_conninfo, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def damage(self, family_id: FamilyId, event_type: str) -> None:
        """Make the data of a family's events of a type unreadable."""
        self.sql(
            "UPDATE events SET data = %s WHERE stream = %s AND type = %s",
            Jsonb({"generation": "many"}),
            family_stream(family_id),
            event_type,
        )

    def set_aside(self) -> list[tuple[object, ...]]:
        return self.sql("SELECT stream, type, stage FROM detector_set_aside ORDER BY stage, type")


@pytest.fixture
def world(
    conninfo: str,
    owner_conninfo: str,
    engine: AsyncEngine,
    data_keys: DataKeys,
    masters: MasterKeys,
) -> World:
    return World(conninfo, owner_conninfo, engine, data_keys, masters)


# ---------------------------------------------------------------------------- alerts and responses


async def test_reuse_raises_an_alert_that_says_the_family_was_gone_already(world: World) -> None:
    session = await world.accounts.sign_in(client=OWNER)
    later = await world.refresh(await world.refresh(session))
    async with world.requests() as lanes:
        assert await present(lanes, session.token, client=THIEF) is Refusal.TOKEN_REUSED

    await world.judge()

    alert = await world.alert_of(REUSE)
    assert (alert.user_id, alert.family_id) == (later.user.user_id, later.family_id)
    assert alert.status is AlertStatus.OPEN
    assert [(each.response, each.outcome, each.families) for each in alert.answers] == [
        (Response.REVOKE_FAMILY, Outcome.NOTHING_LEFT, 0)
    ]
    reused, revoked = (await world.stream(family_stream(session.family_id)))[-2:]
    assert alert.trigger_id == reused.event_id
    assert revoked.cause.causation_id is None  # the refresh itself did it


async def test_another_device_in_another_network_ends_the_family_in_the_rules_name(
    world: World,
) -> None:
    robbed = await world.robbed()
    bystander = await world.accounts.sign_in(client=OWNER)

    await world.judge()

    *_, stolen, revoked = await world.stream(family_stream(robbed.family_id))
    assert (stolen.event.TYPE, revoked.event.TYPE) == ("RefreshTokenRotated", "FamilyRevoked")
    assert str(revoked.cause.actor) == f"rule:{DEVICE_CHANGE}"
    assert revoked.cause.causation_id == stolen.event_id
    assert revoked.cause.correlation_id == stolen.cause.correlation_id
    alert = await world.alert_of(DEVICE_CHANGE)
    assert [(each.outcome, each.families) for each in alert.answers] == [(Outcome.DONE, 1)]
    assert world.family(bystander.family_id) == ["SessionStarted"]
    async with world.requests() as lanes:
        assert await present(lanes, robbed.token, client=THIEF) is Refusal.SESSION_ENDED


async def test_what_was_judged_is_not_judged_again_by_the_next_detector(world: World) -> None:
    await world.robbed()
    await world.judge()
    before = (await world.alerts(), world.sql("SELECT count(*) FROM events"))

    await world.judge()

    assert (await world.alerts(), world.sql("SELECT count(*) FROM events")) == before


@pytest.mark.parametrize(
    ("response", "happens"),
    [
        (Response.ALERT, None),
        (Response.STEP_UP, "StepUpRequired"),
        (Response.REVOKE_SESSION, "SessionEnded"),
        (Response.REVOKE_ALL, "FamilyRevoked"),
    ],
)
async def test_the_policy_says_what_a_rule_does(
    world: World, response: Response, happens: str | None
) -> None:
    await world.set(ConfigureRule(DEVICE_CHANGE, RuleSettings(response=response)))
    robbed = await world.robbed()
    elsewhere = await world.accounts.sign_in(robbed.user, client=OWNER)

    await world.judge()

    happened = world.family(robbed.family_id)[3:]
    assert happened == ([] if happens is None else [happens])
    other = (world.family(elsewhere.family_id))[1:]
    assert other == (["FamilyRevoked"] if response is Response.REVOKE_ALL else [])
    alert = await world.alert_of(DEVICE_CHANGE)
    assert alert.response is response
    assert [each.families for each in alert.answers] == (
        [] if happens is None else [2 if response is Response.REVOKE_ALL else 1]
    )


async def test_a_rule_that_is_switched_off_is_silent(world: World) -> None:
    await world.set(ConfigureRule(DEVICE_CHANGE, RuleSettings(enabled=False)))
    robbed = await world.robbed()

    await world.judge()

    assert [each for each in await world.alerts() if each.rule == DEVICE_CHANGE] == []
    assert world.family(robbed.family_id)[-1] == "RefreshTokenRotated"


async def test_a_network_on_the_allow_list_is_let_be_and_the_others_are_not(world: World) -> None:
    await world.set(
        AllowList(
            entry_id=new_uuid(),
            kind=AllowedKind.NETWORK,
            network="198.51.100.0/24",
            owner=UserId(new_uuid()),
            reason="our office",
            until=datetime.now(UTC) + timedelta(days=1),
        )
    )
    allowed = await world.robbed()
    session = await world.refresh(await world.accounts.sign_in(client=OWNER))
    elsewhere = ClientContext(ip="192.0.2.9", user_agent=IPHONE)
    robbed = await world.refresh(session, client=elsewhere)

    await world.judge()

    assert (world.family(allowed.family_id))[-1] == "RefreshTokenRotated"
    assert world.family(robbed.family_id)[-1] == "FamilyRevoked"


async def test_a_policy_that_changes_while_the_detector_runs_holds_from_then_on(
    world: World,
) -> None:
    async with detecting(world.conninfo, world.masters):
        before = await world.robbed()
        await all_judged(world.conninfo)
        await world.set(ConfigureRule(DEVICE_CHANGE, RuleSettings(response=Response.ALERT)))
        after = await world.robbed()
        await all_judged(world.conninfo)

    assert (world.family(before.family_id))[-1] == "FamilyRevoked"
    assert (world.family(after.family_id))[-1] == "RefreshTokenRotated"
    versions = {each.family_id: each.policy_version for each in await world.alerts()}
    assert (versions[before.family_id], versions[after.family_id]) == (0, 1)


async def test_a_verdict_teaches_the_profile(world: World) -> None:
    await world.set(ConfigureRule(DEVICE_CHANGE, RuleSettings(response=Response.ALERT)))
    robbed = await world.robbed()
    await world.judge()
    unsure = await world.profile(robbed.user.user_id)
    alert = await world.alert_of(DEVICE_CHANGE)
    triage = PostgresAlertCommands(world.engine, world.data_keys)

    await triage.command(alert.alert_id, Resolve(Verdict.FALSE_POSITIVE), cause())
    await world.judge()

    taught = await world.profile(robbed.user.user_id)
    assert (len(unsure.devices), len(unsure.unlearned)) == (1, 1)
    assert (len(taught.devices), len(taught.unlearned)) == (2, 0)


# ----------------------------------------------------------------------------- what goes wrong


async def test_events_of_an_erased_user_harm_nobody(world: World) -> None:
    erased, robbed = await world.robbed(), await world.robbed()
    world.sql("DELETE FROM data_keys WHERE subject_id = %s", erased.user.user_id)

    await world.judge()

    assert (world.family(erased.family_id))[-1] == "RefreshTokenRotated"
    assert world.family(robbed.family_id)[-1] == "FamilyRevoked"
    assert world.set_aside() == []
    kept = world.sql("SELECT 1 FROM detector_states WHERE subject_id = %s", erased.user.user_id)
    assert kept == []


async def test_a_reuse_by_an_erased_users_thief_is_an_alert_without_anything_personal(
    world: World,
) -> None:
    session = await world.accounts.sign_in(client=OWNER)
    await world.refresh(await world.refresh(session))
    async with world.requests() as lanes:
        await present(lanes, session.token, client=THIEF)
    world.sql("DELETE FROM data_keys WHERE subject_id = %s", session.user.user_id)

    await world.judge()

    alert = await world.alert_of(REUSE)
    assert (alert.client, alert.fact_texts) == (None, None)


async def test_an_event_that_nobody_can_read_is_set_aside_and_the_rest_goes_on(
    world: World,
) -> None:
    broken = await world.refresh(await world.accounts.sign_in(client=OWNER))
    robbed = await world.robbed()
    world.damage(broken.family_id, "RefreshTokenRotated")

    await world.judge()

    stream = family_stream(broken.family_id)
    assert world.set_aside() == [(stream, "RefreshTokenRotated", int(Stage.USERS))]
    assert world.family(robbed.family_id)[-1] == "FamilyRevoked"


async def test_a_sign_in_that_nobody_can_read_does_not_keep_its_users_later_events_waiting(
    world: World,
) -> None:
    robbed = await world.robbed()
    world.damage(robbed.family_id, "SessionStarted")
    other = await world.robbed()

    await world.judge()

    stream = family_stream(robbed.family_id)
    assert world.set_aside() == [
        (stream, "SessionStarted", int(Stage.CROWD)),
        (stream, "SessionStarted", int(Stage.USERS)),
    ]
    assert (world.family(other.family_id))[-1] == "FamilyRevoked"


async def test_a_sign_in_that_the_crowds_stage_set_aside_is_judged_without_it(
    world: World,
) -> None:
    robbed = await world.robbed()
    await world.judge()
    before = await world.alerts()
    # As if the crowd's stage had dealt with everything, and left nothing about the sign-in.
    world.sql(
        "UPDATE detector_partitions SET transaction_id = '0', position = 0, owner = NULL"
        " WHERE stage = %s",
        int(Stage.USERS),
    )
    world.sql("DELETE FROM detector_states")

    await world.judge()

    assert (await world.profile(robbed.user.user_id)).sign_ins == 1
    assert await world.alerts() == before  # an alert that is there is not raised again
    assert world.set_aside() == []


async def test_an_event_that_makes_its_batch_fail_is_found_and_set_aside(world: World) -> None:
    at = datetime.now(UTC) - timedelta(hours=1)
    await insert_events(world.engine, world.data_keys, stuffing(at, windows=range(4)))
    await world.judge()
    world.sql("DELETE FROM alerts")  # so that what repeats the alert cannot be folded
    await insert_events(world.engine, world.data_keys, stuffing(at, windows=range(4, 7)))
    metrics = DetectorMetrics()

    await world.judge(metrics)

    assert world.set_aside() == [("source-0", "SignInFailuresCounted", int(Stage.CROWD))]
    exposed = generate_latest(metrics.registry).decode()
    assert 'sessiontrail_detector_set_aside_total{stage="crowd"} 1.0' in exposed
    assert 'sessiontrail_detector_events_total{stage="crowd"} 2.0' in exposed


async def test_a_state_that_cannot_be_read_is_begun_anew(world: World) -> None:
    session = await world.accounts.sign_in(client=OWNER)
    await world.judge()
    world.sql("UPDATE detector_states SET state = 'nonsense'::bytea")

    robbed = await world.refresh(await world.refresh(session), client=THIEF)
    await world.judge()

    assert world.set_aside() == []
    assert world.family(robbed.family_id)[-1] == "FamilyRevoked"


async def test_the_lag_grows_while_no_detector_runs(world: World) -> None:
    await world.judge()
    session = await world.accounts.sign_in(client=OWNER)
    await world.refresh(session)
    world.sql("UPDATE events SET occurred_at = occurred_at - interval '1 minute'")

    async with transaction(world.engine) as connection:
        lags = {stage: await lag_s(connection, stage, types_read(stage)) for stage in Stage}
    await world.judge()

    assert all(lag is not None and 60 <= lag < 120 for lag in lags.values())


async def test_a_service_on_a_database_without_the_detectors_tables_goes_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.sql("DROP TABLE detector_partitions")
    registry = CollectorRegistry()
    asking = asyncio.create_task(DetectorLag(world.engine, registry, types_read).run())

    async def has_asked() -> bool:
        return "lag is not known" in caplog.text

    await eventually(has_asked, "it has asked")

    assert not asking.done()
    assert b"{stage=" not in generate_latest(registry)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
