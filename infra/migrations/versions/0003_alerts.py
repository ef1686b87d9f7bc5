"""Alerts, as the fold of their streams."""

from alembic import op

revision = "0003"
down_revision = "0002"

_ALERTS = """
CREATE TABLE alerts (
    alert_id       uuid PRIMARY KEY,
    version        integer NOT NULL,
    subject_id     uuid NOT NULL,
    rule           text NOT NULL,
    rule_version   integer NOT NULL,
    policy_version integer NOT NULL,
    severity       text NOT NULL,
    severity_rank  smallint NOT NULL,
    response       text NOT NULL,
    status         text NOT NULL,
    family_id      uuid,
    trigger_id     uuid NOT NULL,
    assignee       uuid,
    verdict        text,
    count          bigint NOT NULL,
    raised_at      timestamptz NOT NULL,
    resolved_at    timestamptz,
    first_at       timestamptz NOT NULL,
    last_at        timestamptz NOT NULL,
    score_m        bigint,
    facts          jsonb NOT NULL,
    answers        jsonb NOT NULL,
    client         jsonb,
    fact_texts     jsonb
);
CREATE INDEX alerts_status_idx ON alerts (status, severity_rank, last_at, alert_id);
CREATE INDEX alerts_order_idx ON alerts (severity_rank, last_at, alert_id);
CREATE INDEX alerts_subject_idx ON alerts (subject_id, last_at);
CREATE INDEX alerts_family_idx ON alerts (family_id) WHERE family_id IS NOT NULL;
CREATE INDEX alerts_rule_idx ON alerts (rule, last_at);
"""


def upgrade() -> None:
    """Create an empty table, beside those that are in use."""
    for statement in _ALERTS.split(";"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Drop the table; the log still knows."""
    op.execute("DROP TABLE alerts")
