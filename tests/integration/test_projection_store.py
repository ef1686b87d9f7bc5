"""Proving ``sessions`` and ``users``, against a PostgreSQL that is tampered with."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from domain.events.registry import UnknownEventError
from infra.ids import new_uuid
from infra.projection_store import verify_projections
from infra.sealing import DataKeys
from projections.comparison import DifferenceKind
from tests.integration.accounts import SignedIn
from tests.integration.projection_world import (
    World,
    meanwhile,
    no_progress,
    open_world,
    some_lives,
)


@pytest.fixture
async def world(conninfo: str, owner_conninfo: str, data_keys: DataKeys) -> AsyncIterator[World]:
    async with open_world(conninfo, owner_conninfo, data_keys) as opened:
        yield opened


@pytest.fixture
async def session(world: World) -> SignedIn:
    """Ada's: she has another, and there are a few other lives."""
    return await some_lives(world)


async def test_nothing_differs_in_a_database_that_only_the_service_wrote_to(
    world: World, session: SignedIn
) -> None:
    reports: list[tuple[int, int]] = []

    assert await world.verify(lambda done, total: reports.append((done, total))) == []

    (events,) = world.sql("SELECT count(*) FROM events")[0]
    assert reports[-1] == (events, events)


async def test_an_empty_database_has_nothing_to_differ(world: World) -> None:
    assert await world.verify() == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("generation", "1000"),
        ("family_version", "5"),
        ("secret_hash", "'of another secret'"),
        ("expires_at", "expires_at + interval '1 microsecond'"),
        ("expires_at", "'infinity'"),
        ("started_at", "'4713-01-01 BC'"),
        ("late_retries", "ARRAY['-infinity'::timestamptz]"),
        ("ended_at", "now()"),
        ("user_id", "gen_random_uuid()"),
        ("auth_methods", "'{pwd,otp}'"),
        ("step_up_required_at", "now()"),
    ],
)
async def test_a_value_that_was_changed_is_found(
    world: World, session: SignedIn, column: str, value: str
) -> None:
    world.sql(f"UPDATE sessions SET {column} = {value} WHERE session_id = %s", session.session_id)

    (difference,) = await world.verify()

    assert (difference.kind, difference.table) == (DifferenceKind.DIFFERS, "sessions")
    assert (difference.key, difference.column) == (session.session_id, column)


async def test_a_row_of_an_older_version_is_found_with_all_that_is_out_of_date(
    world: World, session: SignedIn
) -> None:
    world.sql("CREATE TABLE kept AS SELECT * FROM sessions")
    await world.refresh(session)
    columns = "family_version, generation, secret_hash, previous_hash"
    world.sql(
        f"UPDATE sessions s SET ({columns}) = (SELECT {columns} FROM kept k"
        " WHERE k.session_id = s.session_id)"
    )

    found = await world.verify()

    assert [each.column for each in found] == columns.split(", ")
    assert (found[0].expected, found[0].found) == ("5", "4")


async def test_a_deleted_row_is_found(world: World, session: SignedIn) -> None:
    world.sql("DELETE FROM sessions WHERE session_id = %s", session.session_id)
    world.sql("DELETE FROM users WHERE user_id = %s", session.user.user_id)

    found = await world.verify()

    assert {(each.kind, each.table, each.key) for each in found} == {
        (DifferenceKind.MISSING_ROW, "sessions", session.session_id),
        (DifferenceKind.MISSING_ROW, "users", session.user.user_id),
    }


@pytest.mark.parametrize("family_id", ["family_id", "gen_random_uuid()"])
async def test_an_inserted_row_is_found_in_a_known_family_and_in_an_invented_one(
    world: World, session: SignedIn, family_id: str
) -> None:
    stranger = world.insert_copy(session.session_id, family_id)

    (difference,) = await world.verify()

    assert difference.kind is DifferenceKind.EXTRA_ROW
    assert (difference.table, difference.key) == ("sessions", stranger)


async def test_an_inserted_user_is_found(world: World, session: SignedIn) -> None:
    stranger = new_uuid()
    world.sql(
        "INSERT INTO users (user_id, version, origin, roles, registered_at, credential_epoch)"
        " VALUES (%s, 1, 'local', '{admin}', now(), 0)",
        stranger,
    )

    (difference,) = await world.verify()

    assert difference.kind is DifferenceKind.EXTRA_ROW
    assert (difference.table, difference.key) == ("users", stranger)


@pytest.mark.parametrize(
    ("column", "value"),
    [("roles", "'{admin}'"), ("roles", "'{king}'"), ("origin", "'elsewhere'"), ("version", "9")],
)
async def test_a_user_who_was_given_something_is_found(
    world: World, session: SignedIn, column: str, value: str
) -> None:
    world.sql(f"UPDATE users SET {column} = {value} WHERE user_id = %s", session.user.user_id)

    (difference,) = await world.verify()

    assert (difference.table, difference.key) == ("users", session.user.user_id)
    assert difference.column == column


async def test_personal_data_that_was_changed_is_found_and_not_told(
    world: World, session: SignedIn
) -> None:
    world.sql("""UPDATE sessions SET client = '{"ip": "192.0.2.1"}', device_name = 'thief'""")
    world.sql("UPDATE users SET username = 'eve@example.com' WHERE username = 'ada@example.com'")

    found = await world.verify()

    mine = [each for each in found if each.key in {session.session_id, session.user.user_id}]
    assert {each.column for each in mine} == {"client", "device_name", "username"}
    told = repr(found) + " ".join(map(str, found))
    for secret in ("192.0.2", "203.0.113", "thief", "laptop", "@example.com"):
        assert secret not in told


async def test_an_event_that_was_deleted_leaves_a_gap_that_is_found(
    world: World, session: SignedIn
) -> None:
    stream = "family-" + session.family_id
    world.sql("DELETE FROM events WHERE stream = %s AND version = 2", stream)

    (difference,) = await world.verify()

    assert difference.kind is DifferenceKind.DAMAGED_STREAM
    assert (difference.table, difference.key) == ("events", stream)
    assert difference.found == "version 3 where version 2 is due"


async def test_the_last_event_cut_off_is_found_in_the_row_that_knows_of_it(
    world: World, session: SignedIn
) -> None:
    stream = "family-" + session.family_id
    world.sql("DELETE FROM events WHERE stream = %s AND version = 4", stream)

    found = await world.verify()

    assert (found[0].column, found[0].expected, found[0].found) == ("family_version", "3", "4")


async def test_a_stream_without_its_first_event_is_a_damaged_one_and_its_row_no_stranger(
    world: World, session: SignedIn
) -> None:
    world.sql("DELETE FROM events WHERE stream = %s AND version = 1", "family-" + session.family_id)

    assert [each.kind for each in await world.verify()] == [DifferenceKind.DAMAGED_STREAM]


async def test_an_event_that_was_altered_is_found(world: World, session: SignedIn) -> None:
    stream = "family-" + session.family_id
    world.sql(
        """UPDATE events SET data = data || '{"secret_hash": "another"}'
            WHERE stream = %s AND version = 4""",
        stream,
    )

    (difference,) = await world.verify()

    assert (difference.column, difference.expected) == ("secret_hash", "another")


async def test_a_personal_part_that_was_moved_to_another_event_is_found(
    world: World, session: SignedIn
) -> None:
    stream = "family-" + session.family_id
    world.sql(
        "UPDATE events e SET personal = (SELECT personal FROM events o"
        " WHERE o.stream = e.stream AND o.version = 3) WHERE stream = %s AND version = 4",
        stream,
    )

    (difference,) = await world.verify()

    assert (difference.kind, difference.key) == (DifferenceKind.DAMAGED_STREAM, stream)
    assert "does not open" in (difference.found or "")


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE events SET personal = substr(personal, 1, 5) WHERE stream = %s AND version = 1",
        "UPDATE data_keys k SET wrapped_key = '\\x0001' FROM events e WHERE e.stream = %s",
    ],
)
async def test_what_was_cut_short_is_found(world: World, session: SignedIn, tampering: str) -> None:
    stream = "family-" + session.family_id
    world.sql(tampering, stream)

    found = {each.key: each for each in await world.verify()}

    assert found[stream].kind is DifferenceKind.DAMAGED_STREAM
    assert "does not open" in (found[stream].found or "")


async def test_an_erased_user_has_nothing_personal_left_and_does_not_differ(
    world: World, session: SignedIn
) -> None:
    world.erase(session.user.user_id)

    assert await world.verify() == []


async def test_what_an_erasure_left_behind_is_found(world: World, session: SignedIn) -> None:
    world.lose_data_key(session.user.user_id)

    found = await world.verify()

    assert {each.column for each in found} == {
        "client",
        "device_name",
        "username",
        "fact_texts",
    }


async def test_what_is_written_while_it_looks_is_no_difference(
    world: World, session: SignedIn
) -> None:
    async def tampering() -> None:
        world.sql("DELETE FROM sessions")

    assert await world.verify(meanwhile(tampering)) == []
    assert await world.verify() != []


async def test_streams_longer_than_a_batch_and_more_of_them_are_all_looked_at(
    world: World, session: SignedIn
) -> None:
    await a_thousand_users_with_long_lives(world)
    reports: list[tuple[int, int]] = []

    found = await world.verify(lambda done, total: reports.append((done, total)))

    assert len(reports) > 2
    assert len(found) == 1000
    assert {each.kind for each in found} == {DifferenceKind.MISSING_ROW}


async def a_thousand_users_with_long_lives(world: World) -> None:
    """Of disabling and enabling: five events each, and no row."""
    world.sql("""
        INSERT INTO events (occurred_at, version, schema_version, event_id, correlation_id, stream,
                            type, actor, data)
        SELECT now(), version, 1, gen_random_uuid(), gen_random_uuid(), 'user-' || user_id,
               CASE WHEN version = 1 THEN 'UserRegistered'
                    WHEN version % 2 = 0 THEN 'UserDisabled' ELSE 'UserEnabled' END, 'system',
               CASE WHEN version = 1 THEN '{"origin": "local"}'::jsonb ELSE '{}' END
          FROM (SELECT gen_random_uuid() AS user_id FROM generate_series(1, 1000)) u,
               generate_series(1, 5) AS version
         ORDER BY version, user_id
    """)


async def test_it_stops_at_an_event_of_a_newer_build(world: World, session: SignedIn) -> None:
    world.sql(
        "UPDATE events SET schema_version = 99 WHERE stream = %s", "family-" + session.family_id
    )

    with pytest.raises(UnknownEventError):
        await world.verify()


async def test_it_can_be_broken_off(world: World, session: SignedIn) -> None:
    world.sql("DELETE FROM users")

    async with aclosing(verify_projections(world.engine, world.data_keys, no_progress)) as found:
        assert await anext(found) is not None

    assert world.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
