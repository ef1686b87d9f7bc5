"""Wiring of the detector's worker."""

import asyncio
from collections.abc import Mapping

from detector.breaker import Breaker
from detector.memory import KEPT_FOR
from detector.reading import EventReader, types_of
from detector.rulebook import rulebook
from detector.worker import Worker
from domain.detection_work import Stage
from infra.detection_policy_store import DetectionPolicyStore
from infra.detector_lag import DetectorLag
from infra.detector_leases import Leases
from infra.detector_log import LogSource
from infra.detector_metrics import DetectorMetrics
from infra.detector_reactions import Reactions
from infra.detector_retention import run_retention
from infra.detector_work import Workbench
from infra.postgres import transaction
from infra.settings import Settings
from infra.subject_keys import system_key
from infra.user_agents import UserAgents
from sessiontrail.evidence import geoip
from sessiontrail.labelled_keys import crowd_concealment
from sessiontrail.store import Store


def rule_parameters() -> Mapping[str, Mapping[str, int]]:
    """The rules that there are, with their parameters and defaults."""
    return {name: rule.about.parameters for name, rule in rulebook().by_name.items()}


def types_read(stage: Stage) -> list[str]:
    """Names of the event types that a stage of the detector reads."""
    return [event.TYPE for event in types_of(stage)]


async def detect(settings: Settings, store: Store, metrics: DetectorMetrics) -> None:
    """Run a worker on the log, or on Kafka, until cancelled.

    Args:
        settings: The settings.
        store: The database and its keys.
        metrics: Told what the worker does.

    Raises:
        UnsealError: The master keys are not those of this database.
        StoreUnavailableError: The database cannot serve at the start.
        SettingsError: It is to read from Kafka, and nothing says where that is.
    """
    async with transaction(store.engine) as connection:
        await system_key(connection, store.data_keys)  # or every user would look erased
    policies = DetectionPolicyStore(store.engine, store.data_keys)
    reactions = Reactions(
        store.data_keys, store.users, policies, rule_parameters(), Breaker().allows
    )
    on_kafka = settings.detector_transport == "kafka"
    stages = (Stage.CROWD,) if on_kafka else tuple(Stage)
    leases = Leases(store.engine, stages)
    networks = geoip(settings)
    bench = Workbench(policies, reactions, store.data_keys)
    log = LogSource(store.engine, leases, bench, types_read)
    topic = None
    if on_kafka:
        from infra.kafka_source import KafkaSource  # noqa: PLC0415 (only then is kafka-python loaded)

        topic = KafkaSource(
            store.engine,
            settings.kafka_access(),
            settings.kafka_group,
            log,
            bench,
            types_read,
        )
    reader = EventReader(UserAgents(), networks, crowd_concealment(store.data_keys.masters))
    worker = Worker(topic or log, rulebook(), reader, metrics)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(leases.run(), name="detector leases")
        tasks.create_task(networks.run(), name="geoip files")
        tasks.create_task(
            run_retention(store.engine, {int(scope): age for scope, age in KEPT_FOR.items()}),
            name="detector retention",
        )
        tasks.create_task(
            DetectorLag(store.engine, metrics.registry, types_read, stages).run(),
            name="detector lag",
        )
        tasks.create_task(store.data_keys.run(), name="data keys")
        if topic is not None:
            tasks.create_task(topic.run(), name="detector topic")
        tasks.create_task(worker.run(), name="detector")
