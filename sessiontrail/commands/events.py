"""``sessiontrail events``: the log as it is written."""

import asyncio
from typing import Annotated

import msgspec
import typer

from domain.events.envelope import RecordedEvent
from domain.events.registry import MalformedEventError, UnknownEventError
from infra.postgres import transaction
from infra.tail import START, Place, newest_place, read_tail
from sessiontrail.commands.context import CommandError, run, say, store

app = typer.Typer(help="Read the event log.", no_args_is_help=True)

_POLL_S = 0.2
_BATCH = 500


@app.command()
def tail(
    from_start: Annotated[bool, typer.Option(help="Begin with the first event")] = False,
    follow: Annotated[bool, typer.Option(help="Wait for further events")] = True,
) -> None:
    """Print events as JSON lines, in commit order, without gaps. Personal parts stay sealed."""

    async def work() -> None:
        async with store() as opened:
            async with transaction(opened.engine) as connection:
                place = START if from_start else await newest_place(connection)
            while True:
                async with transaction(opened.engine) as connection:
                    events = await read_tail(connection, place, _BATCH)
                for event in events:
                    say(_line(event))
                    place = Place(event.transaction_id, event.position)
                if not events:
                    if not follow:
                        return
                    await asyncio.sleep(_POLL_S)

    try:
        run(work)
    except (UnknownEventError, MalformedEventError) as error:
        raise CommandError(str(error)) from error
    except (KeyboardInterrupt, BrokenPipeError):
        return


def _line(recorded: RecordedEvent) -> str:
    return msgspec.json.encode(
        {
            "position": recorded.position,
            "at": recorded.occurred_at,
            "stream": recorded.stream,
            "version": recorded.version,
            "type": recorded.event.TYPE,
            "subject": recorded.subject_id,
            "actor": str(recorded.cause.actor),
            "correlation_id": recorded.cause.correlation_id,
            "data": recorded.event,
            "sealed": recorded.personal is not None,
        }
    ).decode("utf-8")
