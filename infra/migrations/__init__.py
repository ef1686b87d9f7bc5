"""Alembic migrations: how the tables of ``infra.schema`` come to be, frozen step by step."""
