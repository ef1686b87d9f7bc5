"""How to reach Kafka: the brokers, how to authenticate there, and our topic.

Apart from the clients, so that a process that needs none does not load them.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]


class KafkaAwayError(Exception):
    """Kafka cannot be reached or does not do what is asked of it; try again later."""


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """The brokers and the topic.

    Attributes:
        bootstrap_servers: ``host:port``, several with commas between them.
        topic: The topic that the log is published to.
        partitions: How many it gets when it is made; one that is there keeps its own.
        security_protocol: Whether to speak TLS, and whether to authenticate.
        ca_file: Who vouches for the brokers; None for the system's certificates.
        sasl_mechanism: How to authenticate, such as ``SCRAM-SHA-512``.
        username: As whom.
        password: Proves it.
    """

    bootstrap_servers: str
    topic: str
    partitions: int = 8
    security_protocol: SecurityProtocol = "PLAINTEXT"
    ca_file: Path | None = None
    sasl_mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)


def reader_of(topic: str) -> str:
    """The name of the relay's checkpoint: one for each topic, so that a new one gets everything."""
    return f"kafka-relay:{topic}"
