"""Families whose user has to prove themself again before anything is refreshed."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add a column that needs no rewriting of the table."""
    # The lock is held for an instant, but everybody would wait behind us while we wait for it.
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute("ALTER TABLE sessions ADD COLUMN step_up_required_at timestamptz")
    op.execute("SET LOCAL lock_timeout = DEFAULT")


def downgrade() -> None:
    """Take the column away; the log still knows."""
    op.execute("ALTER TABLE sessions DROP COLUMN step_up_required_at")
