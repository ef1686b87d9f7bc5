"""The composition root: the only place that wires infra into the rest."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

from api.app import create_app
from api.asgi import App
from api.ports import Services
from detector.reading import types_of
from domain.detection_work import Stage
from domain.ports import StoreUnavailableError
from infra.access_tokens import AccessTokens
from infra.activity import ActivityCounter
from infra.alert_commands import PostgresAlertCommands
from infra.alert_feed import AlertFeed
from infra.alert_histories import StreamHistories
from infra.alert_queries import PostgresAlertQueries
from infra.alert_reports import PostgresAlertReports
from infra.clock import DatabaseClock
from infra.console_queries import PostgresConsoleQueries
from infra.detection_policy_store import DetectionPolicyStore
from infra.detector_lag import DetectorLag
from infra.device_names import DeviceNames
from infra.erasure import PostgresErasure
from infra.event_history import AuditHistories
from infra.geoip import GeoIp
from infra.ids import new_uuid
from infra.key_files import KeyRing
from infra.migrate import is_current
from infra.password_hashing import PasswordHashing, load_blocklist
from infra.past_pages import PastPages
from infra.rate_limits import rate_limits
from infra.refresh_lanes import RefreshLanes
from infra.session_queries import PostgresSessionQueries
from infra.settings import Settings
from infra.sign_in_failures import SignInFailureCounter
from infra.standing import PostgresActivity
from infra.sweep import run_sweep
from infra.telemetry import AccessLog, Telemetry, correlation_id
from infra.tree_metrics import TreeLag
from infra.tree_store import StoredTree
from sessiontrail.demo import ensure_demo_user
from sessiontrail.exporting import LogExports
from sessiontrail.keys import FollowedTokenKeys
from sessiontrail.labelled_keys import labelled_key
from sessiontrail.rule_trials import RuleTrials
from sessiontrail.rulebook import DescribedRules
from sessiontrail.store import Store, cause_of, open_store
from sessiontrail.tree_keys import published_key

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Readiness:
    """What is not ready, and why."""

    store: Store
    access_tokens: AccessTokens

    async def __call__(self) -> Mapping[str, str]:
        missing: dict[str, str] = {}
        try:
            if not await is_current(self.store.engine):
                missing["database"] = "migrations are missing: run `sessiontrail migrate`"
        except StoreUnavailableError as error:
            missing["database"] = str(error)
        if not self.access_tokens.keys.keys:
            missing["signing_keys"] = "none is loaded yet"
        return missing


def _access_log_stream(settings: Settings) -> BinaryIO:
    """Standard error, buffered apart from the other log lines: a write a second, not a request."""
    if not settings.access_log:
        return Path(os.devnull).open("wb")
    return open(sys.stderr.fileno(), "wb", closefd=False)


async def _flush_every_second(access_log: AccessLog) -> None:
    while True:
        await asyncio.sleep(1)
        access_log.flush()


@dataclass(frozen=True, slots=True)
class ServiceApp:
    """The service, to be served.

    Attributes:
        app: The ASGI application.
        end_streams: Ends answers that would otherwise go on: a stop waits for those under way.
    """

    app: App
    end_streams: Callable[[], None]


@asynccontextmanager
async def running_service(
    settings: Settings, conninfo: str, load_keys: Callable[[], KeyRing]
) -> AsyncIterator[ServiceApp]:
    """The service with all its background work, for as long as the block lasts.

    Args:
        settings: The settings.
        conninfo: The database.
        load_keys: Reads the key ring; called again when a rotation is to be noticed.

    Raises:
        StoreUnavailableError: The database cannot serve at the start.
    """
    keys = load_keys()
    token_keys = FollowedTokenKeys(load_keys)
    async with open_store(settings, conninfo, keys) as store, contextlib.AsyncExitStack() as stack:
        await store.signing_keys.ensure_one(cause_of("start"))
        access_tokens = AccessTokens(
            settings.public_issuer,
            settings.token_audience,
            settings.session_policy().access_lifetime,
        )
        access_tokens.use(await store.signing_keys.load())
        clock = DatabaseClock(store.engine)
        await clock.synchronise()
        passwords = PasswordHashing()
        stack.callback(passwords.close)
        if settings.wants_demo:
            await ensure_demo_user(store.users, passwords, cause_of("demo"))
        failures = SignInFailureCounter(
            store.engine, store.data_keys, labelled_key(keys.masters, "source streams")
        )
        geoip = GeoIp(settings.geoip_city, settings.geoip_asn, settings.geoip_anonymous)
        lanes = RefreshLanes(conninfo, store.data_keys, lanes=settings.refresh_lanes)
        access_log = AccessLog(stack.enter_context(_access_log_stream(settings)))
        stack.callback(access_log.flush)
        telemetry = Telemetry(access_log)
        limits = rate_limits(
            settings.redis_url,
            settings.rate_limit_rules(),
            labelled_key(keys.masters, "rate limit keys"),
            telemetry.rate_limiter_degraded,
        )
        stack.push_async_callback(limits.close)
        alert_feed = AlertFeed(store.engine)
        reads_kafka = settings.detector_transport == "kafka"
        log_stages = (Stage.CROWD,) if reads_kafka else tuple(Stage)
        detector_lag = DetectorLag(
            store.engine,
            telemetry.registry,
            lambda stage: [event.TYPE for event in types_of(stage)],
            log_stages,
        )
        policies = DetectionPolicyStore(store.engine, store.data_keys)
        log_key = published_key(settings)
        tree_lag = TreeLag(store.engine, telemetry.registry)
        services = Services(
            families=lanes,
            users=store.users,
            sessions=PostgresSessionQueries(store.engine),
            access_tokens=access_tokens,
            keys=access_tokens,
            passwords=passwords,
            common_passwords=cache(load_blocklist),
            failures=failures,
            service_keys=store.service_keys,
            alerts=PostgresAlertCommands(store.engine, store.data_keys),
            alert_queries=PostgresAlertQueries(store.engine),
            alert_feed=alert_feed,
            erasures=PostgresErasure(store.engine, store.users, policies),
            tree=StoredTree(store.engine),
            log_key=log_key,
            histories=StreamHistories(store.engine, store.data_keys),
            past=PastPages(store.engine),
            audit_histories=AuditHistories(store.engine, store.data_keys),
            exports=LogExports(store.engine, store.data_keys, log_key),
            detection_policies=policies,
            rulebook=DescribedRules(),
            limits=limits,
            console=PostgresConsoleQueries(store.engine),
            activity=PostgresActivity(
                store.engine,
                {stage: [event.TYPE for event in types_of(stage)] for stage in log_stages},
                settings.kafka_topic,
            ),
            rule_trials=RuleTrials({"SESSIONTRAIL_DATABASE_URL": conninfo}),
            alert_reports=PostgresAlertReports(store.engine, store.data_keys),
            networks=geoip,
            devices=DeviceNames(),
            telemetry=telemetry,
            policy=settings.session_policy(),
            token_keys=token_keys.current,
            device_key=labelled_key(keys.masters, "device tokens"),
            form_key=labelled_key(keys.masters, "console forms"),
            now=clock.now,
            new_id=new_uuid,
            random_bytes=os.urandom,
            not_ready=_Readiness(store, access_tokens),
            optional=lambda: geoip.states() | tree_lag.states(),
            issuer=settings.public_issuer,
            allowed_origins=frozenset(settings.allowed_origins),
            trusted_proxies=settings.trusted_proxies,
        )
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(work, name=name)
                for name, work in {
                    "refresh lanes": lanes.run(),
                    "signing keys": access_tokens.keep_fresh(store.signing_keys),
                    "token keys": token_keys.run(),
                    "clock": clock.run(),
                    "data keys": store.data_keys.run(),
                    "GeoIP files": geoip.run(),
                    "sign-in failures": failures.run(),
                    "alert feed": alert_feed.run(),
                    "detector lag": detector_lag.run(),
                    "activity": ActivityCounter(store.engine).run(),
                    "tree lag": tree_lag.run(),
                    "sweep": run_sweep(
                        store.engine, store.data_keys, settings.sweep_interval, telemetry.swept
                    ),
                    "access log": _flush_every_second(access_log),
                }.items()
            ]
            try:
                yield ServiceApp(create_app(services, correlation_id.set), alert_feed.close)
            finally:
                for task in background:
                    task.cancel()
