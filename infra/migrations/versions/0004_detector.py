"""What the detector keeps: its places in the log, its states, what it set aside, what it ended."""

from alembic import op

revision = "0004"
down_revision = "0003"

_TABLES = """
CREATE TABLE detector_partitions (
    transport      text NOT NULL,
    stage          smallint NOT NULL,
    partition      smallint NOT NULL,
    transaction_id xid8 NOT NULL,
    position       bigint NOT NULL,
    kafka_offset   bigint,
    owner          uuid,
    leased_until   timestamptz,
    updated_at     timestamptz NOT NULL,
    PRIMARY KEY (transport, stage, partition)
);
CREATE TABLE detector_workers (
    worker_id uuid PRIMARY KEY,
    seen_at   timestamptz NOT NULL
);
CREATE TABLE detector_states (
    scope      smallint NOT NULL,
    key        text NOT NULL,
    subject_id uuid,
    state      bytea NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE INDEX detector_states_subject_idx ON detector_states (subject_id)
 WHERE subject_id IS NOT NULL;
CREATE TABLE detector_set_aside (
    event_id     uuid NOT NULL,
    stage        smallint NOT NULL,
    position     bigint NOT NULL,
    stream       text NOT NULL,
    type         text NOT NULL,
    reason       text NOT NULL,
    set_aside_at timestamptz NOT NULL,
    PRIMARY KEY (event_id, stage)
);
CREATE TABLE detector_actions (
    rule     text NOT NULL,
    minute   timestamptz NOT NULL,
    families integer NOT NULL,
    PRIMARY KEY (rule, minute)
);
"""
_NAMES = (
    "detector_actions, detector_set_aside, detector_states, detector_workers, detector_partitions"
)


def upgrade() -> None:
    """Create empty tables, beside those that are in use."""
    for statement in _TABLES.split(";"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Drop them; the detector then begins anew."""
    op.execute(f"DROP TABLE {_NAMES}")
