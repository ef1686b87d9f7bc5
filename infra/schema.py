"""The tables, as SQLAlchemy Core metadata. Migrations create them; a test compares the two."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import UserDefinedType


class TransactionId(UserDefinedType[int]):
    """PostgreSQL's ``xid8``: a transaction id that never wraps."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """The type's name in DDL."""
        return "xid8"


metadata = MetaData()

_instant = DateTime(timezone=True)
_uuid = Uuid(as_uuid=False)

# Columns lie in the order that wastes no padding.
events = Table(
    "events",
    metadata,
    Column("position", BigInteger, Identity(always=True), primary_key=True),
    Column(
        "transaction_id", TransactionId(), nullable=False, server_default=func.pg_current_xact_id()
    ),
    Column("occurred_at", _instant, nullable=False),
    Column("version", Integer, nullable=False),
    Column("schema_version", SmallInteger, nullable=False),
    Column("event_id", _uuid, nullable=False),
    Column("subject_id", _uuid),
    Column("correlation_id", _uuid, nullable=False),
    Column("causation_id", _uuid),
    Column("stream", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("personal", LargeBinary),
    # Optimistic concurrency, and reading one stream in order. Over 64 bits of the stream's name: a
    # third of the room, and stricter than (stream, version) could be. Two names that collide (one
    # chance in 10^9 at a hundred million families) cost a sign-in one 503: it is tried again.
    Index(
        "events_stream_version_key",
        text("hashtextextended(stream, 0)"),
        "version",
        unique=True,
    ),
    # The gap-free tail. A batch shares its transaction, so one column, deduplicated, takes a third
    # of the room of (transaction_id, position); the few rows of each are sorted as they are read.
    Index("events_tail_idx", "transaction_id"),
    # A person's history, and what an erasure touches.
    Index("events_subject_idx", "subject_id"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", _uuid, primary_key=True),
    Column("family_id", _uuid, nullable=False),
    Column("ordinal", SmallInteger, nullable=False),
    Column("user_id", _uuid, nullable=False),
    Column("family_version", Integer, nullable=False),
    Column("client_id", Text, nullable=False),
    Column("auth_methods", ARRAY(Text), nullable=False),
    Column("signed_in_at", _instant, nullable=False),
    Column("expires_at", _instant, nullable=False),
    Column("delivery", Text, nullable=False),
    Column("persistent", Boolean, nullable=False),
    Column("started_at", _instant, nullable=False),
    Column("idle_timeout_s", Integer, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("secret_hash", Text, nullable=False),
    Column("previous_hash", Text),
    Column("salt", Text),
    Column("token_key", Integer, nullable=False),
    Column("rotated_at", _instant, nullable=False),
    Column("last_seen_at", _instant, nullable=False),
    Column("idle_expires_at", _instant, nullable=False),
    Column("late_retries", ARRAY(_instant), nullable=False),
    Column("client", JSONB),
    Column("device_name", Text),
    Column("refusal_recorded_at", _instant),
    Column("ended_at", _instant),
    Column("end_reason", Text),
    # Expiry, cut to the hour: changes once an hour at most, so that refreshes stay heap-only
    # updates and touch no index, while the sweep still finds its rows through one.
    Column(
        "sweep_after",
        _instant,
        Computed(
            "date_bin('1 hour', LEAST(idle_expires_at, expires_at), '2020-01-01 00:00:00+00')",
            persisted=True,
        ),
    ),
    Column("step_up_required_at", _instant),
    # A family's rows, for every command.
    Index("sessions_family_idx", "family_id", "ordinal", unique=True),
    # A user's sessions, newest first: the device list, logout-all, the session limit.
    Index("sessions_user_idx", "user_id", "family_id"),
    # The sweep.
    Index("sessions_sweep_idx", "sweep_after", postgresql_where="ended_at IS NULL"),
    # Room in each page for the heap-only updates.
    postgresql_with={"fillfactor": 70},
)

alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", _uuid, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("subject_id", _uuid, nullable=False),
    Column("rule", Text, nullable=False),
    Column("rule_version", Integer, nullable=False),
    Column("policy_version", Integer, nullable=False),
    Column("severity", Text, nullable=False),
    Column("severity_rank", SmallInteger, nullable=False),
    Column("response", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("family_id", _uuid),
    Column("trigger_id", _uuid, nullable=False),
    Column("assignee", _uuid),
    Column("verdict", Text),
    Column("count", BigInteger, nullable=False),
    Column("raised_at", _instant, nullable=False),
    Column("resolved_at", _instant),
    Column("first_at", _instant, nullable=False),
    Column("last_at", _instant, nullable=False),
    Column("score_m", BigInteger),
    Column("facts", JSONB, nullable=False),
    Column("answers", JSONB, nullable=False),
    Column("client", JSONB),
    Column("fact_texts", JSONB),
    # The queue: alerts of some statuses, the worst and latest first.
    Index("alerts_status_idx", "status", "severity_rank", "last_at", "alert_id"),
    # All alerts in that order.
    Index("alerts_order_idx", "severity_rank", "last_at", "alert_id"),
    # A user's alerts, and what an erasure touches.
    Index("alerts_subject_idx", "subject_id", "last_at"),
    # A family's alerts.
    Index("alerts_family_idx", "family_id", postgresql_where="family_id IS NOT NULL"),
    # A rule's alerts, and how they were judged.
    Index("alerts_rule_idx", "rule", "last_at", postgresql_include=["verdict"]),
)

users = Table(
    "users",
    metadata,
    Column("user_id", _uuid, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("origin", Text, nullable=False),
    Column("username", Text, unique=True),
    Column("external_subject", Text, unique=True),
    Column("roles", ARRAY(Text), nullable=False),
    Column("registered_at", _instant, nullable=False),
    Column("disabled_at", _instant),
    Column("credential_epoch", Integer, nullable=False),
    Column("erased_at", _instant),
    # The few who have roles: whose an alert may be.
    Index("users_staff_idx", "user_id", postgresql_where=text("roles <> '{}'::text[]")),
)

credentials = Table(
    "credentials",
    metadata,
    Column("user_id", _uuid, primary_key=True),
    Column("sealed_hash", LargeBinary, nullable=False),
)

data_keys = Table(
    "data_keys",
    metadata,
    Column("subject_id", _uuid, primary_key=True),
    Column("wrapped_key", LargeBinary, nullable=False),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("kid", Text, primary_key=True),
    Column("algorithm", Text, nullable=False),
    Column("wrapped_private_key", LargeBinary, nullable=False),
    Column("public_jwk", JSONB, nullable=False),
    Column("created_at", _instant, nullable=False),
    Column("signs_from", _instant, nullable=False),
    Column("retired_at", _instant),
    Column("verifies_until", _instant),
    CheckConstraint(
        "(retired_at IS NULL) = (verifies_until IS NULL)", name="signing_keys_retirement_check"
    ),
)

service_keys = Table(
    "service_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("sealed_hash", LargeBinary),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", _instant, nullable=False),
    Column("revoked_at", _instant),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("reader", Text, primary_key=True),
    Column("transaction_id", TransactionId(), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("updated_at", _instant, nullable=False),
)

detector_partitions = Table(
    "detector_partitions",
    metadata,
    Column("transport", Text, primary_key=True),
    Column("stage", SmallInteger, primary_key=True, autoincrement=False),
    Column("partition", SmallInteger, primary_key=True, autoincrement=False),
    Column("transaction_id", TransactionId(), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("kafka_offset", BigInteger),
    Column("owner", _uuid),
    Column("leased_until", _instant),
    Column("updated_at", _instant, nullable=False),
)

detector_workers = Table(
    "detector_workers",
    metadata,
    Column("worker_id", _uuid, primary_key=True),
    Column("seen_at", _instant, nullable=False),
)

detector_states = Table(
    "detector_states",
    metadata,
    Column("scope", SmallInteger, primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("subject_id", _uuid),
    Column("state", LargeBinary, nullable=False),
    Column("updated_at", _instant, nullable=False),
    # What an erasure takes along.
    Index(
        "detector_states_subject_idx",
        "subject_id",
        postgresql_where=text("subject_id IS NOT NULL"),
    ),
)

detector_set_aside = Table(
    "detector_set_aside",
    metadata,
    Column("event_id", _uuid, primary_key=True),
    Column("stage", SmallInteger, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False),
    Column("stream", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("set_aside_at", _instant, nullable=False),
)

detector_actions = Table(
    "detector_actions",
    metadata,
    Column("rule", Text, primary_key=True),
    Column("minute", _instant, primary_key=True),
    Column("families", Integer, nullable=False),
)

# How much happened, by the quarter of an hour: what an overview shows.
activity = Table(
    "activity",
    metadata,
    Column("began", _instant, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
)

tree_tiles = Table(
    "tree_tiles",
    metadata,
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("tile", BigInteger, primary_key=True, autoincrement=False),
    # Up to 256 hashes of 32 bytes; a narrower tile is the beginning of a wider one.
    Column("hashes", LargeBinary, nullable=False),
)

# Where in the log each run of 256 leaves begins, and between which times its events happened.
entry_bundles = Table(
    "entry_bundles",
    metadata,
    Column("bundle", BigInteger, primary_key=True, autoincrement=False),
    Column("transaction_id", TransactionId(), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("earliest_at", _instant, nullable=False),
    Column("latest_at", _instant, nullable=False),
    # The leaf of an event.
    Index("entry_bundles_place_idx", "transaction_id", "position", unique=True),
)

tree_heads = Table(
    "tree_heads",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("signed_at", _instant, nullable=False),
    Column("note", Text, nullable=False),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("snapshot_id", _uuid, primary_key=True),
    Column("transaction_id", TransactionId(), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("latest_at", _instant, nullable=False),
    Column("taken_at", _instant, nullable=False),
    # Of the event that announced it: what is used of a snapshot is checked against that.
    Column("version", Integer, nullable=False),
    Column("format", SmallInteger, nullable=False),
    # SHA-256 of each chunk, by kind and number.
    Column("digests", LargeBinary, nullable=False),
)

# Chunks come before the row of their snapshot: one transaction for all of them would hold back the
# tail of the log.
snapshot_chunks = Table(
    "snapshot_chunks",
    metadata,
    Column("snapshot_id", _uuid, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("chunk", Integer, primary_key=True, autoincrement=False),
    Column("states", LargeBinary, nullable=False),
)

# Parts of the log that are in files; the rows of those that are not restored are gone from events.
log_archives = Table(
    "log_archives",
    metadata,
    Column("archive_id", _uuid, primary_key=True),
    Column("first_leaf", BigInteger, nullable=False),
    Column("end_leaf", BigInteger, nullable=False),
    # Of the last event in it.
    Column("transaction_id", TransactionId(), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("snapshot_id", _uuid, nullable=False),
    Column("file_name", Text, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("archived_at", _instant, nullable=False),
    Column("restored_at", _instant),
)


def _rebuilt(table: Table) -> Table:
    """Where ``table`` is folded anew, beside it; a crash of the server empties it."""
    columns = [
        Column(column.name, column.type, primary_key=column.primary_key) for column in table.columns
    ]
    return Table("rebuilt_" + table.name, metadata, *columns, prefixes=["UNLOGGED"])


rebuilt_users = _rebuilt(users)
rebuilt_sessions = _rebuilt(sessions)
rebuilt_alerts = _rebuilt(alerts)
# A family's rows, to catch up with its events.
Index("rebuilt_sessions_family_idx", rebuilt_sessions.c.family_id)

rebuild_progress = Table(
    "rebuild_progress",
    metadata,
    Column("table_name", Text, primary_key=True),
    Column("made_by", Text, nullable=False),
    # A snapshot: what it does not see is still to be folded.
    Column("since", Text, nullable=False),
    # The hash of the stream that was folded last, as long as the whole log is not.
    Column("folded_to", BigInteger),
    Column("complete", Boolean, nullable=False),
    prefixes=["UNLOGGED"],
)

# What a swap replaced: the rows of each user, family or alert as they were, as text. Personal.
replaced_rows = Table(
    "replaced_rows",
    metadata,
    Column("table_name", Text, primary_key=True),
    Column("owner", _uuid, primary_key=True),
    Column("subject_id", _uuid, nullable=False),
    # How many events the log had of it then.
    Column("version", Integer, nullable=False),
    Column("replaced_at", _instant, nullable=False),
    Column("rows", ARRAY(Text), nullable=False),
    # What an erasure takes along.
    Index("replaced_rows_subject_idx", "subject_id"),
)
