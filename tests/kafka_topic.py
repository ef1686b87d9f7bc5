"""What lies on a topic, read without any code of ours: and as a careful consumer sees it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import kafka
from kafka.structs import TopicPartition

from domain.events.envelope import RecordedEvent
from infra.kafka_access import KafkaAccess
from infra.kafka_messages import envelope_of, event_of
from infra.tail import START


@dataclass(frozen=True, slots=True)
class OnTopic:
    """One message as it lies there."""

    partition: int
    offset: int
    key: bytes
    value: bytes


def messages_on(access: KafkaAccess, within_s: float = 20) -> list[OnTopic]:
    """Everything on the topic, partition by partition, in the order in which it lies there."""
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=access.bootstrap_servers,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
        metrics_enabled=False,
    )
    try:
        numbers = sorted(consumer.partitions_for_topic(access.topic))
        partitions = [TopicPartition(access.topic, number) for number in numbers]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        consumer.seek_to_beginning()
        read: dict[int, list[OnTopic]] = {number: [] for number in numbers}
        deadline = time.monotonic() + within_s
        while any(consumer.position(each) < ends[each] for each in partitions):
            assert time.monotonic() < deadline, "the topic could not be read in time"
            for partition, records in consumer.poll(timeout_ms=200).items():
                read[partition.partition] += [
                    OnTopic(partition.partition, record.offset, record.key, record.value)
                    for record in records
                ]
    finally:
        consumer.close()
    return [message for number in numbers for message in read[number]]


def seen_once(messages: Sequence[OnTopic]) -> list[RecordedEvent]:
    """What a consumer sees that drops what is not above the place it has reached on a partition.

    Returns:
        The events in the log's order.
    """
    reached = dict.fromkeys((message.partition for message in messages), START)
    taken: list[RecordedEvent] = []
    for message in messages:
        envelope = envelope_of(message.value)
        if envelope.place > reached[message.partition]:
            reached[message.partition] = envelope.place
            taken.append(event_of(envelope))
    return sorted(taken, key=lambda event: (event.transaction_id, event.position))
