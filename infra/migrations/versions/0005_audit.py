"""The log's Merkle tree and its signed heads, snapshots for time travel, archives, erasure."""

from alembic import op

revision = "0005"
down_revision = "0004"

_TABLES = """
CREATE TABLE tree_tiles (
    level  smallint NOT NULL,
    tile   bigint NOT NULL,
    hashes bytea NOT NULL,
    PRIMARY KEY (level, tile)
);
CREATE TABLE entry_bundles (
    bundle         bigint PRIMARY KEY,
    transaction_id xid8 NOT NULL,
    position       bigint NOT NULL,
    earliest_at    timestamptz NOT NULL,
    latest_at      timestamptz NOT NULL
);
CREATE UNIQUE INDEX entry_bundles_place_idx ON entry_bundles (transaction_id, position);
CREATE TABLE tree_heads (
    size      bigint PRIMARY KEY,
    root      bytea NOT NULL,
    signed_at timestamptz NOT NULL,
    note      text NOT NULL
);
CREATE TABLE snapshots (
    snapshot_id    uuid PRIMARY KEY,
    transaction_id xid8 NOT NULL,
    position       bigint NOT NULL,
    latest_at      timestamptz NOT NULL,
    taken_at       timestamptz NOT NULL
);
CREATE TABLE snapshot_chunks (
    snapshot_id uuid NOT NULL REFERENCES snapshots ON DELETE CASCADE,
    kind        text NOT NULL,
    chunk       integer NOT NULL,
    states      bytea NOT NULL,
    PRIMARY KEY (snapshot_id, kind, chunk)
);
ALTER TABLE users ADD COLUMN erased_at timestamptz;
"""


def upgrade() -> None:
    """Create empty tables, beside those that are in use."""
    for statement in _TABLES.split(";"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Drop them; the tree can be built anew, heads that others saved stay as good as they were."""
    op.execute("ALTER TABLE users DROP COLUMN erased_at")
    op.execute("DROP TABLE snapshot_chunks, snapshots, tree_heads, entry_bundles, tree_tiles")
