"""Kafka behind TLS and SASL: relay and detector work over it, and nobody without the password."""

import asyncio
import gc
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from infra.kafka_access import KafkaAccess, KafkaAwayError
from infra.kafka_clients import ensure_topic
from infra.kafka_distribution import NoKafkaError
from infra.key_files import load_key_ring
from infra.local_kafka import Guard, LocalKafka, free_ports
from infra.postgres import create_engine
from infra.sealing import DataKeys
from tests.detector_history import result_of, write_history
from tests.e2e.database import wait_for
from tests.e2e.service import make_keys
from tests.e2e.test_detector_crashes import detector
from tests.e2e.test_kafka_crashes import is_all_judged, judged, on_kafka
from tests.e2e.test_kafka_relay import relay
from tests.kafka_broker import PARTITIONS, without_kafka

EVENTS = 300
THEFTS = 2
IN_TIME_S = 60.0
PASSWORD = "the-password-of-the-relay"


@pytest.fixture(scope="module")
def guarded() -> Iterator[LocalKafka]:
    """A broker that speaks nothing but TLS, and to nobody without the password."""
    with tempfile.TemporaryDirectory(prefix="sessiontrail-kafka-") as name:
        folder = Path(name)
        guard = Guard(*certified(folder), username="relay", password=PASSWORD)
        broker = LocalKafka(folder / "broker", *free_ports(2), guard=guard)
        try:
            broker.start()
        except NoKafkaError as error:
            without_kafka(str(error))
        try:
            yield broker
        finally:
            broker.stop()


def certified(folder: Path) -> tuple[Path, Path]:
    """A key with its certificate for 127.0.0.1, and the certificate of who vouches for it."""
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    now = datetime.now(UTC)
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority for one test")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])

    def begun(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )

    vouching = (
        begun(issuer, authority.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority, SHA256())
    )
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    vouched = (
        begun(subject, key.public_key())
        .add_extension(addresses, critical=False)
        .sign(authority, SHA256())
    )
    key_file, ca_file = folder / "broker.pem", folder / "ca.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key_file.touch(0o600)
    key_file.write_bytes(private + vouched.public_bytes(Encoding.PEM))
    ca_file.write_bytes(vouching.public_bytes(Encoding.PEM))
    return key_file, ca_file


async def write(conninfo: str, data_keys: DataKeys) -> None:
    """A history with thefts in it."""
    engine = create_engine(conninfo, max_connections=2, wait_s=10)
    until = datetime.now(UTC) - timedelta(minutes=1)
    await write_history(engine, data_keys, until, events=EVENTS, thefts=THEFTS, reuses=1)
    await engine.dispose()


def test_relay_and_detector_work_over_tls_and_scram(
    conninfo: str, data_dir: Path, guarded: LocalKafka
) -> None:
    data_dir.mkdir(mode=0o700)
    make_keys(data_dir)
    keys = load_key_ring(data_dir / "keys.json", None, None)
    asyncio.run(write(conninfo, DataKeys(keys.masters)))
    access = guarded.access("guarded", PARTITIONS)

    with (
        relay(data_dir, conninfo, access),
        detector(on_kafka(data_dir, conninfo, access), data_dir),
    ):
        wait_for(lambda: judged(conninfo) > 0, IN_TIME_S)
        wait_for(lambda: is_all_judged(conninfo, access), IN_TIME_S)

    assert len(result_of(conninfo).done) >= THEFTS
    logged = "".join(each.read_text() for each in data_dir.glob("*.log"))
    assert PASSWORD not in logged


@pytest.fixture
def collected() -> Iterator[None]:
    """kafka-python leaves a socket whose TLS handshake fails to the garbage collector."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of that socket
@pytest.mark.parametrize(
    "wrong",
    [
        {"password": "a guess"},
        {"ca_file": None},
        {"security_protocol": "SSL", "sasl_mechanism": None},
        {"security_protocol": "PLAINTEXT", "sasl_mechanism": None},
    ],
    ids=["wrong-password", "authority-unknown", "without-a-password", "without-tls"],
)
def test_a_broker_that_does_not_fit_is_not_talked_to(
    guarded: LocalKafka, wrong: dict[str, str | None]
) -> None:
    access: KafkaAccess = replace(guarded.access("unreached"), **wrong)  # type: ignore[arg-type]

    with pytest.raises(KafkaAwayError) as refused:
        ensure_topic(access)

    assert PASSWORD not in str(refused.value)
    assert "a guess" not in str(refused.value)
