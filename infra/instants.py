"""Reading times that somebody may have tampered with."""

from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from psycopg.abc import Buffer
from psycopg.types.datetime import TimestamptzBinaryLoader

from infra.postgres import Connection

OUT_OF_RANGE: Final = datetime.min.replace(tzinfo=UTC)
"""Read in the place of what Python has no ``datetime`` for."""


class AnyInstant(TimestamptzBinaryLoader):
    """Takes also what Python has no ``datetime`` for, such as infinity: a row may hold it."""

    def load(self, data: Buffer) -> datetime:
        """The time, or ``OUT_OF_RANGE``."""
        try:
            return super().load(data)
        except psycopg.DataError:
            return OUT_OF_RANGE


def any_instant_cursor(connection: Connection) -> psycopg.AsyncCursor[tuple[Any, ...]]:
    """A cursor that reads whatever time a row holds; Any: rows as they come."""
    cursor = connection.cursor(binary=True)
    cursor.adapters.register_loader("timestamptz", AnyInstant)
    return cursor
