"""Publishing to the topic, in order and without gaps whatever fails. Blocks: for a thread.

What a consumer relies on: whenever a message stands on a partition, all those before it in the log
stand before it there, perhaps twice. A batch that fails while the next one succeeds would break
that, and idempotence alone does not prevent it (a producer that gives a batch up goes on with a new
epoch). So the messages of one partition that are under way are always *one* batch, which a
broker takes whole or not at all, and nothing follows it before it is acknowledged.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import kafka
from kafka.errors import KafkaError

from infra.kafka_access import KafkaAccess
from infra.kafka_clients import away, connect, ensure_topic
from infra.kafka_messages import Message

_BATCH_BYTES: Final = 768 * 1024
_AT_ONCE_BYTES: Final = 512 * 1024
"""Well below what one batch holds, and below the megabyte that brokers take by default."""
_OVERHEAD_BYTES: Final = 40
"""More than a record's own fields take."""
_BLOCK_MS: Final = 3000
_LINGER_MS: Final = 3000
"""A batch leaves when it is flushed, not before: longer than it takes to fill."""
_DELIVERY_MS: Final = 7000
"""When a batch is given up: as long as a stopping relay may have to wait for it."""


class Publisher:
    """The producing side of a topic. Not for several threads at once."""

    def __init__(self, access: KafkaAccess) -> None:
        """Connects at the first ``publish``."""
        self._access = access
        self._producer: kafka.KafkaProducer | None = None

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish, and wait until the brokers have it all.

        Args:
            messages: In the log's order.

        Raises:
            KafkaAwayError: Not all of it is known to be there. Publish the same messages again,
                and nothing else, later; those that were there already are there twice then.
        """
        try:
            producer = self._open()
            for together in _taken_together(messages):
                futures = [
                    producer.send(self._access.topic, key=message.key, value=message.value)
                    for message in together
                ]
                producer.flush()
                for future in futures:
                    future.get(timeout=0)
        except KafkaError as error:
            self.close()
            raise away(error) from error

    def close(self) -> None:
        """Let go of the brokers. A later ``publish`` connects again."""
        producer, self._producer = self._producer, None
        if producer is not None:
            # What fails here was given up already.
            producer.close(timeout=_DELIVERY_MS / 1000)

    def _open(self) -> kafka.KafkaProducer:
        if self._producer is None:
            ensure_topic(self._access)
            self._producer = connect(
                self._access,
                kafka.KafkaProducer,
                client_id="sessiontrail-relay",
                enable_idempotence=True,
                acks="all",
                batch_size=_BATCH_BYTES,
                linger_ms=_LINGER_MS,
                delivery_timeout_ms=_DELIVERY_MS,
                max_block_ms=_BLOCK_MS,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        return self._producer


def _taken_together(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """The messages in portions of which no partition gets more than one batch holds."""
    start = size = 0
    for index, message in enumerate(messages):
        bytes_ = len(message.key) + len(message.value) + _OVERHEAD_BYTES
        if size + bytes_ > _AT_ONCE_BYTES and index > start:
            yield messages[start:index]
            start, size = index, 0
        size += bytes_
    if start < len(messages):
        yield messages[start:]
