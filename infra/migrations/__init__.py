"""Alembic migrations: how the tables of ``infra.schema`` come to be, one frozen step after another."""
