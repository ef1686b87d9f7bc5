"""Clients of kafka-python: connected with patience that we know, and without leftovers. Blocks."""

import logging
import socket
from collections.abc import Callable
from typing import Any, Final, TypeVar

import kafka
from kafka.errors import KafkaError, TopicAlreadyExistsError
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket

from infra.kafka_access import KafkaAccess, KafkaAwayError

_ClientT = TypeVar("_ClientT")

_CONNECT_MS: Final = 3000
_REQUEST_MS: Final = 3000

# We say in our own words what matters; kafka-python logs every attempt to connect as an error.
logging.getLogger("kafka").setLevel(logging.CRITICAL)


def connect(access: KafkaAccess, make: Callable[..., _ClientT], **options: object) -> _ClientT:
    """A client of kafka-python, connected within three seconds.

    Args:
        access: The brokers.
        make: The client's class.
        options: What it needs beside how to reach the brokers.

    Raises:
        KafkaError: No broker answers, or none lets us in.
    """
    under_way: list[KafkaNetClient] = []

    def connecting(**configs: object) -> KafkaNetClient:
        under_way.append(KafkaNetClient(**configs))
        return under_way[-1]

    try:
        return make(**_options(access), **options, kafka_client=connecting)
    except BaseException:
        for each in under_way:  # a constructor that fails leaves its thread and sockets behind
            each.close()
        raise


class _TidySockets(KafkaNetSocket):  # type: ignore[misc]  # kafka-python has no types
    """Connects directly, and closes a socket that does not connect: kafka-python leaves it open.

    How its sockets are made can only be chosen by the scheme of a proxy.
    """

    SCHEMES = ("direct",)

    async def sock_connect(
        self, net: object, sock: socket.socket, sockaddr: object, timeout_at: float | None = None
    ) -> socket.socket:
        try:
            connected: socket.socket = await super().sock_connect(net, sock, sockaddr, timeout_at)
        except BaseException:
            sock.close()
            raise
        return connected


def ensure_topic(access: KafkaAccess) -> None:
    """Make the topic, unless it is there.

    Its number of partitions is for ever: another number would move users to other partitions, and
    their events out of order.

    Raises:
        KafkaAwayError: Kafka cannot be reached, or refuses.
    """
    try:
        admin = connect(access, kafka.KafkaAdminClient)
        try:
            if access.topic not in admin.list_topics():
                wanted = {"num_partitions": access.partitions, "replication_factor": -1}
                admin.create_topics({access.topic: wanted}, wait_for_metadata=True)
        except TopicAlreadyExistsError:  # another relay was faster
            pass
        finally:
            admin.close()
    except KafkaError as error:
        raise away(error) from error


def away(error: KafkaError) -> KafkaAwayError:
    """The fault of kafka-python as ours: its kind, never its text, which may quote credentials."""
    return KafkaAwayError(f"Kafka cannot serve just now ({type(error).__name__})")


def _options(access: KafkaAccess) -> dict[str, Any]:  # Any: options of kafka-python have any type
    options: dict[str, Any] = {
        "bootstrap_servers": [each.strip() for each in access.bootstrap_servers.split(",")],
        "bootstrap_timeout_ms": _CONNECT_MS,
        "request_timeout_ms": _REQUEST_MS,
        "reconnect_backoff_max_ms": 1000,
        "security_protocol": access.security_protocol,
        "proxy_url": f"{_TidySockets.SCHEMES[0]}://",
    }
    if access.ca_file is not None:
        options["ssl_cafile"] = str(access.ca_file)
    if access.sasl_mechanism is not None:
        options["sasl_mechanism"] = access.sasl_mechanism
        options["sasl_plain_username"] = access.username
        options["sasl_plain_password"] = access.password
    return options
