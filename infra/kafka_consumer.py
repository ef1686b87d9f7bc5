"""One member of a consumer group, as a thing that blocks: for a thread of its own."""

from collections.abc import Collection, Mapping, Sequence
from threading import Lock
from typing import Final

import kafka
import msgspec
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata, TopicPartition

from infra.kafka_access import KafkaAccess
from infra.kafka_clients import away, connect, ensure_topic

_POLL_MS: Final = 100
_AT_ONCE: Final = 1000
_SESSION_MS: Final = 6000
"""How long a member that was killed keeps its partitions: as short as brokers allow by default."""
_HEARTBEAT_MS: Final = 1500
_CLOSE_MS: Final = 3000

BEGINNING: Final = -1
"""Where to seek for the oldest message that is still there."""


class Polled(msgspec.Struct, frozen=True):
    """What one look at the topic brought.

    Attributes:
        gone: Partitions that are not ours any more; perhaps ours again, and then in ``fresh``.
        fresh: Partitions that became ours. Nothing is read of one before a seek says from where.
        messages: For each partition, offsets and values in order.
    """

    gone: frozenset[int]
    fresh: frozenset[int]
    messages: Mapping[int, Sequence[tuple[int, bytes]]]


class GroupConsumer:
    """A member of a group that reads the topic. Not for several threads at once."""

    def __init__(self, access: KafkaAccess, group: str) -> None:
        """Connects at the first ``poll``.

        Args:
            access: The brokers and the topic.
            group: Its members share the partitions.
        """
        self._access = access
        self._group = group
        self._consumer: kafka.KafkaConsumer | None = None
        self._rebalances = _Rebalances()
        self._placed: set[int] = set()

    def poll(self, seeks: Mapping[int, int], paused: Collection[int]) -> Polled:
        """Read on, for a tenth of a second at most where there is nothing new.

        Args:
            seeks: The offset to go on from, for partitions that are fresh or to be read again.
            paused: Partitions that nothing is to be read of for now.

        Raises:
            KafkaAwayError: No broker, or none that lets us in. All partitions are lost then.
        """
        try:
            consumer = self._open()
            self._seek(consumer, seeks)
            self._pause(consumer, paused)
            _finish_joining(consumer)
            records = consumer.poll(timeout_ms=_POLL_MS, max_records=_AT_ONCE)
        except KafkaError as error:
            self.close()
            raise away(error) from error
        gone, fresh = self._rebalances.take()
        self._placed -= gone | fresh
        messages = {
            partition.partition: [(record.offset, record.value) for record in found]
            for partition, found in records.items()
            if partition.partition in self._placed
        }
        return Polled(gone, fresh, messages)

    def show(self, offsets: Mapping[int, int]) -> None:
        """Tell Kafka how far partitions are: for its own tools. Nobody here reads it back."""
        if self._consumer is not None and offsets:
            self._consumer.commit_async(
                {self._partition(each): OffsetAndMetadata(at) for each, at in offsets.items()}
            )

    def close(self) -> None:
        """Leave the group, so that others need not wait for our silence. A ``poll`` joins again."""
        consumer, self._consumer = self._consumer, None
        self._placed.clear()
        if consumer is not None:
            consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)
        self._rebalances = _Rebalances()

    def _open(self) -> kafka.KafkaConsumer:
        if self._consumer is None:
            ensure_topic(self._access)
            self._consumer = connect(
                self._access,
                kafka.KafkaConsumer,
                client_id="sessiontrail-detector",
                group_id=self._group,
                enable_auto_commit=False,  # the database has the offsets
                auto_offset_reset="earliest",
                session_timeout_ms=_SESSION_MS,
                heartbeat_interval_ms=_HEARTBEAT_MS,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
            self._consumer.subscribe([self._access.topic], listener=self._rebalances)
        return self._consumer

    def _seek(self, consumer: kafka.KafkaConsumer, seeks: Mapping[int, int]) -> None:
        assigned = {each.partition for each in consumer.assignment()}
        for number, offset in seeks.items():
            if number not in assigned:
                continue
            if offset == BEGINNING:
                consumer.seek_to_beginning(self._partition(number))
            else:
                consumer.seek(self._partition(number), offset)
            self._placed.add(number)

    def _pause(self, consumer: kafka.KafkaConsumer, paused: Collection[int]) -> None:
        for partition in consumer.assignment():
            rests = partition.partition in paused or partition.partition not in self._placed
            if rests != (partition in consumer.paused()):
                (consumer.pause if rests else consumer.resume)(partition)

    def _partition(self, number: int) -> TopicPartition:
        return TopicPartition(self._access.topic, number)


def _finish_joining(consumer: kafka.KafkaConsumer) -> None:
    """Have a join taken up that would be forgotten.

    kafka-python 3.0 joins anew when it learns of other partitions. If a poll ends while that is
    under way, the next one finds nothing left to join for, drops the answer, and the member waits
    for ever, without partitions and without heartbeats.
    """
    coordinator = consumer._coordinator
    if coordinator.rejoining and not coordinator.need_rejoin():
        coordinator.request_rejoin()


class _Rebalances(kafka.ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Remembers what changed hands. Called from kafka-python's own thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._gone: set[int] = set()
        self._fresh: set[int] = set()

    def take(self) -> tuple[frozenset[int], frozenset[int]]:
        """What is gone and what is fresh since the last time."""
        with self._lock:
            gone, fresh = frozenset(self._gone), frozenset(self._fresh)
            self._gone.clear()
            self._fresh.clear()
        return gone, fresh

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Note them."""
        with self._lock:
            numbers = {each.partition for each in revoked}
            self._gone |= numbers
            self._fresh -= numbers

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Note them."""
        with self._lock:
            self._fresh |= {each.partition for each in assigned}

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        """The same as revoked, found out too late: the database sorts out who may write."""
        self.on_partitions_revoked(lost)
