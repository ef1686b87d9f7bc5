"""Alembic's entry point: migrates on the connection that ``infra.migrate`` hands over."""

from alembic import context

from infra.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
