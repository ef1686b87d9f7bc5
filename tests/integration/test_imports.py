"""Earlier sign-ins, taught to the detector: whose they are, once, all or nothing, and alone."""

import asyncio
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from detector.memory import Scope, decode_state
from detector.profile import UserProfile
from detector.simulation.evidence import Evidence
from domain.events.users import UserOrigin
from domain.ids import SYSTEM_SUBJECT, UserId
from domain.user import User
from infra.detector_import import AlreadyImportedError, importing
from infra.detector_leases import Leases
from infra.postgres import transaction
from infra.sealing import DataKeys, MasterKeys
from infra.service_keys import ServiceKeyStore
from infra.settings import Settings
from infra.signing_keys import SigningKeyStore
from infra.user_commands import PostgresUserCommands
from sessiontrail.commands.context import CommandError, operator_cause
from sessiontrail.earlier_sign_ins import EarlierSignIns, Survey
from sessiontrail.evidence import evidence_of_files
from sessiontrail.store import Store
from tests.integration.accounts import Accounts

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"

Importer = Callable[..., EarlierSignIns]


def silent(_done: int, _total: int) -> None:
    pass


def sign_in(user: str, day: int = 5, *, country: str = "NO", **more: object) -> str:
    line = {
        "at": f"2026-01-{day:02}T08:00:00Z",
        "do": "login",
        "user": user,
        "family": f"{user}-{day}",
        "ip": "203.0.113.7",
        "user_agent": FIREFOX,
        "geo": {"country": country, "city": "Oslo", "asn": 64500},
        **more,
    }
    return json.dumps(line)


@pytest.fixture
def opened(engine: AsyncEngine, data_keys: DataKeys, masters: MasterKeys) -> Store:
    return Store(
        engine,
        data_keys,
        PostgresUserCommands(engine, data_keys),
        SigningKeyStore(engine, masters),
        ServiceKeyStore(engine, masters),
    )


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return evidence_of_files(Settings())


@pytest.fixture
def importer(opened: Store, evidence: Evidence, tmp_path: Path) -> Importer:
    """Makes an import of these lines."""

    def of(lines: Iterable[str], *, known_only: bool = False) -> EarlierSignIns:
        path = tmp_path / "earlier.jsonl"
        path.write_text("".join(line + "\n" for line in lines))
        return EarlierSignIns(opened, evidence, operator_cause(), path, known_only=known_only)

    return of


async def carried_out(earlier: EarlierSignIns) -> Survey:
    survey = await earlier.survey(silent)
    await earlier.teach(survey, silent)
    return survey


async def profiles(engine: AsyncEngine) -> dict[str, UserProfile]:
    """What is known, by user id."""
    async with transaction(engine) as connection:
        cursor = await connection.execute(
            "SELECT key, state FROM detector_states WHERE scope = %s", (int(Scope.PROFILE),)
        )
        found = {key: decode_state(Scope.PROFILE, state) for key, state in await cursor.fetchall()}
    return {key: state for key, state in found.items() if isinstance(state, UserProfile)}


async def count(engine: AsyncEngine, table: str) -> int:
    async with transaction(engine) as connection:
        cursor = await connection.execute(f"SELECT count(*) FROM {table}")
        row = await cursor.fetchone()
    assert row is not None
    number: int = row[0]
    return number


async def events(engine: AsyncEngine) -> list[tuple[str, str, str, dict[str, object]]]:
    async with transaction(engine) as connection:
        cursor = await connection.execute(
            "SELECT stream, subject_id::text, actor, data FROM events"
            " WHERE type = 'SignInsImported' ORDER BY version"
        )
        return [
            (stream, subject, actor, data)
            for stream, subject, actor, data in await cursor.fetchall()
        ]


async def test_users_are_known_by_id_by_name_and_by_subject(
    engine: AsyncEngine, data_keys: DataKeys, importer: Importer
) -> None:
    accounts = Accounts(engine, data_keys)
    by_id, by_name = await accounts.user(), await accounts.user("ada@example.com")

    survey = await carried_out(
        importer([sign_in(by_id.user_id), sign_in("Ada@Example.com"), sign_in("crm|77")])
    )

    known = await profiles(engine)
    found = await accounts.users.find(
        UserId(next(iter(known.keys() - {by_id.user_id, by_name.user_id})))
    )
    assert survey.registered == 1
    assert {by_id.user_id, by_name.user_id} < known.keys()
    assert found is not None
    assert (found.user.origin, found.user.external_subject) == (UserOrigin.EXTERNAL, "crm|77")


async def test_profiles_learn_what_the_sign_ins_showed(
    engine: AsyncEngine, data_keys: DataKeys, importer: Importer
) -> None:
    user = await Accounts(engine, data_keys).user()
    lines = [sign_in(user.user_id, day) for day in (5, 9)]
    lines.append(sign_in(user.user_id, 12, country="SE"))

    await carried_out(importer(lines))

    profile = (await profiles(engine))[user.user_id]
    assert profile.sign_ins == 3
    assert {known.key for known in profile.countries} == {"NO", "SE"}
    assert {known.key for known in profile.asns} == {"as64500"}
    assert profile.features.sign_ins == 3


async def test_a_second_file_adds_to_what_the_first_one_taught(
    engine: AsyncEngine, data_keys: DataKeys, importer: Importer
) -> None:
    user = await Accounts(engine, data_keys).user()

    await carried_out(importer([sign_in(user.user_id, 5)]))
    await carried_out(importer([sign_in(user.user_id, 9)]))

    assert (await profiles(engine))[user.user_id].sign_ins == 2


async def test_no_session_and_no_trace_comes_of_it(engine: AsyncEngine, importer: Importer) -> None:
    await carried_out(importer([sign_in("crm|77")]))

    async with transaction(engine) as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM detector_states WHERE scope IN (%s, %s)",
            (int(Scope.TRACE), int(Scope.CONTEXT)),
        )
        row = await cursor.fetchone()
    assert row == (0,)
    assert await count(engine, "sessions") == 0


async def test_the_import_is_on_record(engine: AsyncEngine, importer: Importer) -> None:
    survey = await carried_out(importer([sign_in("crm|77"), "nonsense", sign_in("crm|78")]))

    ((stream, subject, actor, data),) = await events(engine)
    assert (stream, subject) == ("policy-imports", SYSTEM_SUBJECT)
    assert actor.startswith("operator:")
    assert data == {
        "sha256": survey.sha256,
        "lines": 3,
        "sign_ins": 2,
        "users": 2,
        "registered": 2,
    }


async def test_the_same_file_is_refused(engine: AsyncEngine, importer: Importer) -> None:
    await carried_out(importer([sign_in("crm|77")]))

    with pytest.raises(AlreadyImportedError, match="imported before"):
        await importer([sign_in("crm|77")]).survey(silent)

    assert [each.sign_ins for each in (await profiles(engine)).values()] == [1]
    assert len(await events(engine)) == 1


async def test_of_two_imports_of_one_file_at_once_one_counts(
    engine: AsyncEngine, importer: Importer
) -> None:
    earlier = importer([sign_in("crm|77")])
    survey = await earlier.survey(silent)

    ends = await asyncio.gather(
        *(earlier.teach(survey, silent) for _ in range(3)), return_exceptions=True
    )

    refused = [end for end in ends if isinstance(end, BaseException)]
    assert [type(end) for end in refused] == [AlreadyImportedError] * 2
    assert [each.sign_ins for each in (await profiles(engine)).values()] == [1]


async def test_a_file_that_changes_meanwhile_teaches_nothing(
    engine: AsyncEngine, importer: Importer
) -> None:
    survey = await importer([sign_in("crm|77")]).survey(silent)
    changed = importer([sign_in("crm|77"), sign_in("crm|77", 9)])

    with pytest.raises(CommandError, match="changed while it was read"):
        await changed.teach(survey, silent)

    assert await profiles(engine) == {}
    assert await events(engine) == []


async def test_unknown_users_can_be_passed_over(
    engine: AsyncEngine, data_keys: DataKeys, importer: Importer
) -> None:
    user = await Accounts(engine, data_keys).user()

    survey = await carried_out(
        importer([sign_in(user.user_id), sign_in("crm|77")], known_only=True)
    )

    assert (survey.sign_ins, survey.registered) == (2, 0)
    assert list(await profiles(engine)) == [user.user_id]
    assert await count(engine, "users") == 1


async def test_lines_that_teach_nothing_are_named_and_passed_over(
    engine: AsyncEngine, importer: Importer, capsys: pytest.CaptureFixture[str]
) -> None:
    survey = await carried_out(
        importer(
            [
                "nonsense",
                sign_in("crm|77"),
                '{"at": "2026-01-05T08:00:00Z", "do": "refresh", "family": "f", "generation": 1}',
                sign_in("crm|77", at="2999-01-01T00:00:00Z"),
                sign_in("a\u0000b"),
                sign_in("x" * 300),
            ]
        )
    )

    told = [line.split(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert told == ["line 1", "line 4", "line 5", "line 6"]
    assert (survey.sign_ins, survey.bad_lines) == (1, 4)
    assert [each.sign_ins for each in (await profiles(engine)).values()] == [1]


@pytest.mark.parametrize("lines", [[], ["nonsense"]], ids=["empty", "no sign-in"])
async def test_a_file_without_sign_ins_is_refused(
    engine: AsyncEngine, importer: Importer, lines: list[str]
) -> None:
    with pytest.raises(CommandError, match="holds no sign-in"):
        await importer(lines).survey(silent)

    assert await events(engine) == []


async def test_more_than_a_batch_is_learned_from_in_order(
    engine: AsyncEngine, data_keys: DataKeys, importer: Importer
) -> None:
    user: User = await Accounts(engine, data_keys).user()
    lines = [
        sign_in(user.user_id, at=f"2026-01-05T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z")
        for n in range(4_100)
    ]

    await carried_out(importer(lines))

    assert (await profiles(engine))[user.user_id].sign_ins == 4_100


async def test_no_worker_works_meanwhile(engine: AsyncEngine) -> None:
    leases = Leases(engine)
    await leases.renew()

    async with importing(engine, "0" * 64), transaction(engine) as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM detector_partitions FOR UPDATE SKIP LOCKED) free"
        )
        row = await cursor.fetchone()

    assert row == (0,)


async def test_a_worker_that_comes_meanwhile_waits(engine: AsyncEngine) -> None:
    async with importing(engine, "0" * 64):
        starting = asyncio.create_task(Leases(engine).renew())
        done, _ = await asyncio.wait([starting], timeout=0.3)
        assert not done

    await asyncio.wait_for(starting, 10)
    assert await count(engine, "detector_partitions") == 17
