"""Property: whatever happens to alerts, each row is the fold of its events."""

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.alert import Alert, evolve_alert
from domain.alert_decisions import (
    Acknowledge,
    AlertCommand,
    Assign,
    Comment,
    NoteAnswer,
    Reopen,
    Resolve,
)
from domain.detection import Outcome, Response, Severity, Verdict
from domain.events.alerts import AlertEvent
from domain.events.envelope import NewEvent
from domain.events.personal import Sealed
from domain.ids import AlertId, UserId, alert_stream
from infra.alert_commands import PostgresAlertCommands
from infra.alert_queries import PostgresAlertQueries
from infra.ids import new_uuid
from infra.postgres import transaction
from infra.sealing import DataKeys
from infra.subject_keys import subject_keys
from infra.tail import read_stream
from tests.alerts import by_staff, put, raised, repeated
from tests.integration.projection_world import World, open_world

STAFF = UserId("0195513a-0000-7000-8000-00000000a11a")

severities = st.sampled_from(list(Severity))
responses = st.sampled_from(list(Response))
texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20
)
repeats = st.builds(
    repeated,
    severity=severities,
    response=responses,
    count=st.integers(1, 10_000),
    facts=st.none() | st.dictionaries(st.sampled_from(["new_asn", "new_city"]), texts, min_size=1),
)
commands: st.SearchStrategy[AlertCommand] = st.one_of(
    st.just(Acknowledge()),
    st.just(Reopen()),
    st.builds(Assign, st.sampled_from([STAFF, None])),
    st.builds(Comment, texts),
    st.builds(Resolve, st.sampled_from(list(Verdict)), st.none() | texts),
    st.builds(NoteAnswer, responses, st.sampled_from(list(Outcome)), st.integers(0, 5)),
)
lives = st.tuples(
    st.builds(raised, severity=severities, response=responses),
    st.lists(repeats | commands, max_size=12),
)


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(life=lives)
def test_the_row_of_an_alert_is_the_fold_of_its_events(
    conninfo: str,
    owner_conninfo: str,
    data_keys: DataKeys,
    life: tuple[NewEvent, list[NewEvent | AlertCommand]],
) -> None:
    asyncio.run(_live(conninfo, owner_conninfo, data_keys, life))


async def _live(
    conninfo: str,
    owner_conninfo: str,
    data_keys: DataKeys,
    life: tuple[NewEvent, list[NewEvent | AlertCommand]],
) -> None:
    async with open_world(conninfo, owner_conninfo, data_keys) as world:
        alert_id = AlertId(new_uuid())
        first, rest = life
        await put(world.engine, data_keys, alert_id, first)
        analysts = PostgresAlertCommands(world.engine, data_keys)
        for each in rest:
            if isinstance(each, NewEvent):
                await put(world.engine, data_keys, alert_id, each)
            else:
                await analysts.command(alert_id, each, by_staff(STAFF))

        assert await PostgresAlertQueries(world.engine).alert(alert_id) == await folded(
            world, alert_id
        )
        assert await world.verify() == []


async def folded(world: World, alert_id: AlertId) -> Alert | None:
    """The alert as its events have it, apart from the projections' own folding."""
    async with transaction(world.engine) as connection:
        events = await read_stream(connection, alert_stream(alert_id))
        keys = await subject_keys(
            connection, {UserId(event.subject_id or "") for event in events}, world.data_keys
        )
    alert: Alert | None = None
    for recorded in events:
        event: AlertEvent = recorded.event  # type: ignore[assignment]  # of an alert's stream
        personal = recorded.personal
        if isinstance(personal, Sealed) and recorded.subject_id is not None:
            personal = keys[recorded.subject_id].open(personal)
        alert = evolve_alert(alert, alert_id, event, personal, recorded.occurred_at)
    return alert
