"""The log, the sessions and users, keys and checkpoints."""

from alembic import op

revision = "0001"
down_revision = None

_EVENTS = """
CREATE TABLE events (
    position       bigint GENERATED ALWAYS AS IDENTITY,
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    occurred_at    timestamptz NOT NULL,
    version        integer NOT NULL,
    schema_version smallint NOT NULL,
    event_id       uuid NOT NULL,
    subject_id     uuid,
    correlation_id uuid NOT NULL,
    causation_id   uuid,
    stream         text NOT NULL,
    type           text NOT NULL,
    actor          text NOT NULL,
    data           jsonb NOT NULL,
    personal       bytea,
    CONSTRAINT events_pkey PRIMARY KEY (position)
);
CREATE UNIQUE INDEX events_stream_version_key ON events (hashtextextended(stream, 0), version);
CREATE INDEX events_tail_idx ON events (transaction_id);
CREATE INDEX events_subject_idx ON events (subject_id);
"""

_APPEND_ONLY = """
CREATE FUNCTION events_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the event log is append-only: % is refused', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$
"""

_GUARD = """
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION events_are_append_only()
"""

_SESSIONS = """
CREATE TABLE sessions (
    session_id          uuid PRIMARY KEY,
    family_id           uuid NOT NULL,
    ordinal             smallint NOT NULL,
    user_id             uuid NOT NULL,
    family_version      integer NOT NULL,
    client_id           text NOT NULL,
    auth_methods        text[] NOT NULL,
    signed_in_at        timestamptz NOT NULL,
    expires_at          timestamptz NOT NULL,
    delivery            text NOT NULL,
    persistent          boolean NOT NULL,
    started_at          timestamptz NOT NULL,
    idle_timeout_s      integer NOT NULL,
    generation          bigint NOT NULL,
    secret_hash         text NOT NULL,
    previous_hash       text,
    salt                text,
    token_key           integer NOT NULL,
    rotated_at          timestamptz NOT NULL,
    last_seen_at        timestamptz NOT NULL,
    idle_expires_at     timestamptz NOT NULL,
    late_retries        timestamptz[] NOT NULL,
    client              jsonb,
    device_name         text,
    refusal_recorded_at timestamptz,
    ended_at            timestamptz,
    end_reason          text,
    sweep_after         timestamptz GENERATED ALWAYS AS (
        date_bin('1 hour', LEAST(idle_expires_at, expires_at), '2020-01-01 00:00:00+00')
    ) STORED
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX sessions_family_idx ON sessions (family_id, ordinal);
CREATE INDEX sessions_user_idx ON sessions (user_id, family_id);
CREATE INDEX sessions_sweep_idx ON sessions (sweep_after) WHERE ended_at IS NULL;
"""

_USERS = """
CREATE TABLE users (
    user_id          uuid PRIMARY KEY,
    version          integer NOT NULL,
    origin           text NOT NULL,
    username         text UNIQUE,
    external_subject text UNIQUE,
    roles            text[] NOT NULL,
    registered_at    timestamptz NOT NULL,
    disabled_at      timestamptz,
    credential_epoch integer NOT NULL
);
CREATE TABLE credentials (
    user_id       uuid PRIMARY KEY,
    password_hash text NOT NULL
);
CREATE TABLE data_keys (
    subject_id  uuid PRIMARY KEY,
    wrapped_key bytea NOT NULL
);
"""

_KEYS = """
CREATE TABLE signing_keys (
    kid                 text PRIMARY KEY,
    algorithm           text NOT NULL,
    wrapped_private_key bytea NOT NULL,
    public_jwk          jsonb NOT NULL,
    created_at          timestamptz NOT NULL,
    signs_from          timestamptz NOT NULL,
    retired_at          timestamptz,
    verifies_until      timestamptz,
    CONSTRAINT signing_keys_retirement_check
        CHECK ((retired_at IS NULL) = (verifies_until IS NULL))
);
CREATE TABLE service_keys (
    key_id      text PRIMARY KEY,
    name        text NOT NULL,
    secret_hash text NOT NULL,
    scopes      text[] NOT NULL,
    created_at  timestamptz NOT NULL,
    revoked_at  timestamptz
);
CREATE TABLE checkpoints (
    reader         text PRIMARY KEY,
    transaction_id xid8 NOT NULL,
    position       bigint NOT NULL,
    updated_at     timestamptz NOT NULL
);
"""


def upgrade() -> None:
    """Create everything."""
    for script in (_EVENTS, _SESSIONS, _USERS, _KEYS):
        for statement in script.split(";"):
            if statement.strip():
                op.execute(statement)
    op.execute(_APPEND_ONLY)
    op.execute(_GUARD)


def downgrade() -> None:
    """Refuse: a log is not dropped by a command that takes one step back."""
    msg = "the first migration cannot be taken back: it would drop the event log"
    raise RuntimeError(msg)
