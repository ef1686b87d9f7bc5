"""Settings, from the environment. Every name, default and meaning is in docs/settings.md."""

import re
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from domain.policy import SessionPolicy
from domain.rate_limiting import DEFAULT_RULES, LimitName
from infra.kafka_access import KafkaAccess

_PREFIX = "SESSIONTRAIL_"
_ORIGIN = re.compile(r"https?://[^/?#\s@*]+")
CommaSeparated = Annotated[tuple[str, ...], NoDecode]
Seconds = Annotated[int, Field(ge=0)]


class SettingsError(Exception):
    """A setting that cannot be used; the message names it and says why, in one line."""


class Settings(BaseSettings):
    """Everything that can be set. Durations are in seconds.

    What every platform sets without our prefix (``PORT``, ``DATABASE_URL``) works too.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore", frozen=True)

    host: str = Field("127.0.0.1", validation_alias=AliasChoices("SESSIONTRAIL_HOST", "HOST"))
    port: int = Field(
        8000, ge=0, le=65535, validation_alias=AliasChoices("SESSIONTRAIL_PORT", "PORT")
    )
    issuer: str | None = None
    audience: str | None = None

    data_dir: Path = Path(".sessiontrail")
    database_url: str | None = Field(
        None, validation_alias=AliasChoices("SESSIONTRAIL_DATABASE_URL", "DATABASE_URL")
    )
    migration_database_url: str | None = None
    migrate_at_start: bool = True
    database_connections: int = Field(8, ge=2)
    database_wait: float = Field(5.0, gt=0)
    refresh_lanes: int = Field(1, ge=1, le=16)
    redis_url: str | None = Field(
        None, validation_alias=AliasChoices("SESSIONTRAIL_REDIS_URL", "REDIS_URL")
    )

    kafka_bootstrap_servers: str | None = Field(
        None,
        validation_alias=AliasChoices(
            "SESSIONTRAIL_KAFKA_BOOTSTRAP_SERVERS", "KAFKA_BOOTSTRAP_SERVERS"
        ),
    )
    kafka_topic: str = Field("sessiontrail.events", pattern=r"^[a-zA-Z0-9._-]{1,249}$")
    kafka_partitions: int = Field(8, ge=1, le=1000)
    kafka_group: str = "sessiontrail-detector"
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_ca_file: Path | None = None
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_username: str | None = None
    kafka_password: str | None = Field(None, repr=False)

    master_keys: str | None = Field(None, repr=False)
    token_keys: str | None = Field(None, repr=False)
    key_file: Path | None = None

    tree_key: str | None = Field(None, repr=False)
    tree_key_file: Path | None = None
    tree_public_key: str | None = Field(None, repr=False)
    tree_origin: str | None = None
    tree_dir: Path | None = None

    trusted_proxies: CommaSeparated = ()
    allowed_origins: CommaSeparated = ()

    access_lifetime: Seconds = 600
    idle_timeout: Seconds = 14 * 86400
    shared_computer_idle_timeout: Seconds = 3600
    absolute_lifetime: Seconds = 90 * 86400
    overlap_window: Seconds = 10
    late_retry_budget: int = 2
    late_retry_period: Seconds = 86400
    session_limit: int = 100
    sweep_interval: Annotated[int, Field(ge=1)] = 60

    limit_login_per_network: str = DEFAULT_RULES[LimitName.LOGIN_PER_NETWORK]
    limit_login_per_site: str = DEFAULT_RULES[LimitName.LOGIN_PER_SITE]
    limit_login_per_account_and_network: str = DEFAULT_RULES[
        LimitName.LOGIN_PER_ACCOUNT_AND_NETWORK
    ]
    limit_login_per_account: str = DEFAULT_RULES[LimitName.LOGIN_PER_ACCOUNT]
    limit_login_per_known_device: str = DEFAULT_RULES[LimitName.LOGIN_PER_KNOWN_DEVICE]
    limit_refresh_per_session: str = DEFAULT_RULES[LimitName.REFRESH_PER_SESSION]
    limit_refresh_per_network: str = DEFAULT_RULES[LimitName.REFRESH_PER_NETWORK]
    limit_password_change_per_user: str = DEFAULT_RULES[LimitName.PASSWORD_CHANGE_PER_USER]

    geoip_city: Path | None = None
    geoip_asn: Path | None = None
    geoip_anonymous: Path | None = None

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    access_log: bool = True
    demo: bool | None = None
    detector: bool | None = None
    detector_transport: Literal["log", "kafka"] = "log"
    sequencer: bool | None = None
    snapshot_events: Annotated[int, Field(ge=256)] = 100_000

    @field_validator("trusted_proxies", "allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("geoip_city", "geoip_asn", "geoip_anonymous", mode="before")
    @classmethod
    def _is_named(cls, value: object) -> object:
        return value or None  # an empty variable is an absent one, not the working directory

    @field_validator("database_url", "migration_database_url")
    @classmethod
    def _connects(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                conninfo_to_dict(value)
            except psycopg.ProgrammingError:  # its text quotes the password
                msg = "not a postgresql:// URL or a libpq connection string"
                raise ValueError(msg) from None
        return value

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("redis://", "rediss://", "unix://")):
            msg = "not a redis://, rediss:// or unix:// URL"
            raise ValueError(msg)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            ip_network(text, strict=False)
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """As browsers spell them: whatever is spelled otherwise would never be met."""
        origins = tuple(text.lower().removesuffix("/") for text in value)
        for origin in origins:
            if _ORIGIN.fullmatch(origin) is None:
                msg = f"{origin!r} is no origin, such as https://app.example.com"
                raise ValueError(msg)
        return origins

    @field_validator("issuer")
    @classmethod
    def _is_web_address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("https://", "http://")):
            msg = "not an https:// or http:// URL"
            raise ValueError(msg)
        return value

    @property
    def public_issuer(self) -> str:
        """The issuer: as set, else the address that the service listens on."""
        if self.issuer is not None:
            return self.issuer.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def token_audience(self) -> str:
        """The ``aud`` of access tokens: as set, else the issuer."""
        return self.audience or self.public_issuer

    @property
    def is_embedded(self) -> bool:
        """Whether the service runs on its own PostgreSQL."""
        return self.database_url is None

    @property
    def wants_demo(self) -> bool:
        """Whether to create the demo user: on the embedded database unless told otherwise."""
        return self.is_embedded if self.demo is None else self.demo

    @property
    def wants_detector(self) -> bool:
        """Whether ``serve`` runs a detector: on the embedded database unless told otherwise."""
        return self.is_embedded if self.detector is None else self.detector

    @property
    def wants_sequencer(self) -> bool:
        """Whether ``serve`` runs a sequencer: on the embedded database unless told otherwise."""
        return self.is_embedded if self.sequencer is None else self.sequencer

    @property
    def tree_key_path(self) -> Path:
        """Where the file with the tree's signing key is."""
        return self.tree_key_file or self.data_dir / "tree.key"

    @property
    def tree_path(self) -> Path:
        """Where the tree is published as files."""
        return self.tree_dir or self.data_dir / "tree"

    @property
    def keys_path(self) -> Path:
        """Where the key file is."""
        return self.key_file or self.data_dir / "keys.json"

    def kafka_access(self) -> KafkaAccess:
        """How to reach Kafka.

        Raises:
            SettingsError: Nothing says where the brokers are, or as whom to authenticate.
        """
        if not self.kafka_bootstrap_servers:
            msg = (
                "KAFKA_BOOTSTRAP_SERVERS: not set; give the brokers as host:port, several with"
                " commas between them"
            )
            raise SettingsError(msg)
        authenticates = self.kafka_security_protocol.startswith("SASL")
        if authenticates and not (self.kafka_username and self.kafka_password):
            msg = (
                f"{_PREFIX}KAFKA_USERNAME, {_PREFIX}KAFKA_PASSWORD: needed with"
                f" {self.kafka_security_protocol}"
            )
            raise SettingsError(msg)
        return KafkaAccess(
            self.kafka_bootstrap_servers,
            self.kafka_topic,
            partitions=self.kafka_partitions,
            security_protocol=self.kafka_security_protocol,
            ca_file=self.kafka_ca_file,
            sasl_mechanism=self.kafka_sasl_mechanism if authenticates else None,
            username=self.kafka_username,
            password=self.kafka_password,
        )

    def session_policy(self) -> SessionPolicy:
        """The session policy that these settings make.

        Raises:
            SettingsError: It cannot be kept.
        """
        try:
            return SessionPolicy(
                access_lifetime=timedelta(seconds=self.access_lifetime),
                idle_timeout=timedelta(seconds=self.idle_timeout),
                shared_computer_idle_timeout=timedelta(seconds=self.shared_computer_idle_timeout),
                absolute_lifetime=timedelta(seconds=self.absolute_lifetime),
                overlap_window=timedelta(seconds=self.overlap_window),
                late_retry_budget=self.late_retry_budget,
                late_retry_period=timedelta(seconds=self.late_retry_period),
                session_limit=self.session_limit,
            )
        except ValueError as error:
            raise SettingsError(str(error)) from error

    def rate_limit_rules(self) -> dict[LimitName, str]:
        """The rate limits, by name."""
        return {name: getattr(self, f"limit_{name.value}") for name in LimitName}


def load_settings() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: A setting cannot be used.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "a setting"
        if not name.isupper():
            name = _PREFIX + name.upper()
        msg = f"{name}: {first['msg']}"
        raise SettingsError(msg) from None
