from msgspec.structs import replace

from detector.crowd import crowd_keys, take_in
from detector.crowd_states import AccountState, SourceState, SprayState
from detector.features import TOTAL, FeatureState, features_of
from detector.memory import Memory, Scope, encode_state
from detector.observations import Failures, Kind, Observation
from domain.evidence import Network
from domain.ids import EventId, UserId
from tests.unit.detector.builders import (
    DAY,
    HOSTING,
    HOUR,
    LAPTOP,
    OSLO,
    START,
    Watch,
    client_of,
    moved,
)


def sign_in(user: str = "ada", network: Network = OSLO, at: float = START) -> Observation:
    return Observation(
        kind=Kind.SIGN_IN,
        second=at,
        event_id=EventId("e1"),
        user_id=UserId(user),
        client=client_of(network, LAPTOP, None),
        network=network,
        device=LAPTOP,
    )


def failed(
    source: str | None = HOSTING.prefix,
    accounts: tuple[tuple[str, int], ...] = (("ada", 1),),
    *,
    unknown: int = 0,
    at: float = START,
) -> Observation:
    named = tuple((UserId(user), tries) for user, tries in accounts)
    total = sum(tries for _, tries in accounts) + unknown
    return Observation(
        kind=Kind.SIGN_IN_FAILURES,
        second=at,
        event_id=EventId("e2"),
        failures=Failures(source, total, unknown, named),
    )


def source_in(memory: Memory, network: Network = HOSTING) -> SourceState:
    state = memory.get((Scope.SOURCE, network.prefix or "?"), SourceState)
    return state or SourceState()


def account_in(memory: Memory, user: str = "ada") -> AccountState:
    return memory.get((Scope.ACCOUNT, user), AccountState) or AccountState()


def test_a_sign_in_is_told_what_was_counted_before_it() -> None:
    memory = Memory()
    take_in(memory, sign_in("ada"))
    take_in(memory, sign_in("bob"))

    context, _ = take_in(memory, sign_in("ada"))

    assert context is not None
    assert (context.counts.total, context.counts.users) == (2, 2)
    assert context.counts.address[0].count == 2


def test_an_autonomous_system_knows_how_many_addresses_it_has_shown() -> None:
    memory = Memory()
    for number in (1, 2, 1, 3):
        take_in(memory, sign_in(network=moved(OSLO, number)))

    asn = memory.get((Scope.FEATURE, features_of(sign_in()).address[1]), FeatureState)

    assert asn == FeatureState(count=4, children=3)


def test_everything_that_is_counted_is_asked_for_first() -> None:
    for seen in (sign_in(), failed(), failed(source=None), failed(accounts=(), unknown=3)):
        memory = Memory()
        asked = set(crowd_keys(seen))

        take_in(memory, seen)

        assert {key for key, _ in memory.changes()} <= asked


def test_an_owner_who_mistypes_at_home_is_not_counted() -> None:
    memory = Memory()
    take_in(memory, sign_in("ada", OSLO))

    take_in(memory, failed(OSLO.prefix, at=START + 2 * DAY))

    assert account_in(memory).recent(START + 2 * DAY) == 0
    assert source_in(memory, OSLO).tries.total(START + 2 * DAY) == 0


def test_a_network_is_no_home_on_the_day_of_its_first_success() -> None:
    memory = Memory()
    take_in(memory, sign_in("ada", HOSTING))

    take_in(memory, failed(HOSTING.prefix, at=START + HOUR))

    assert account_in(memory).recent(START + HOUR) == 1


def test_an_owner_who_mistypes_on_a_journey_and_gets_in_is_taken_back() -> None:
    memory = Memory()
    take_in(memory, failed(HOSTING.prefix, (("ada", 2),)))

    take_in(memory, sign_in("ada", HOSTING, START + 30))

    spray = memory.get((Scope.SPRAY, ""), SprayState)
    assert source_in(memory).tries.total(START + 30) == 0
    assert spray is not None
    assert spray.accounts.total(START + 30) == 0


def test_of_failures_counted_together_nothing_is_said_of_one_source() -> None:
    memory = Memory()

    _, sighting = take_in(memory, failed(source=None, accounts=(("ada", 9),)))

    assert sighting is not None
    assert sighting.source is None
    assert account_in(memory).recent(START) == 9


def test_of_one_source_a_spray_takes_in_only_the_first_few() -> None:
    memory = Memory()
    everyone = tuple((f"user{number}", 1) for number in range(32))

    take_in(memory, failed(HOSTING.prefix, everyone))

    spray = memory.get((Scope.SPRAY, ""), SprayState)
    assert spray is not None
    assert spray.accounts.total(START) == 10


def test_what_is_to_be_expected_grows_with_how_many_sign_in() -> None:
    spray = SprayState(past_failures=50.0, past_sign_ins=1000.0)

    assert spray.expected(2000) > 90
    assert spray.explained(2000) > 130


def test_an_attack_is_not_learned_from_as_if_people_mistyped_more() -> None:
    watch = Watch()
    for number in range(3000):
        watch.failure(f"user{number % 700}", moved(HOSTING, number % 900))
    watch.wait(HOUR)

    watch.failure("ada")

    spray = watch.memory.get((Scope.SPRAY, ""), SprayState)
    assert spray is not None
    assert spray.past_failures <= 50


def test_users_of_a_network_are_counted_once_a_day() -> None:
    memory = Memory()
    for user in ("ada", "bob", "ada", "bob", "ada"):
        take_in(memory, sign_in(user))

    assert source_in(memory, OSLO).users(START) == 2
    assert source_in(memory, OSLO).users(START + 3 * DAY) == 0


def test_states_stay_small_however_long_an_attack_lasts() -> None:
    watch = Watch()
    for number in range(20_000):
        watch.failure(f"user{number}", HOSTING if number % 2 else moved(HOSTING, number))
        watch.wait(1)
    for number in range(500):
        watch.failure("ada", moved(HOSTING, number))

    states = dict(watch.memory.changes())

    assert max(len(encode_state(state)) for state in states.values() if state is not None) < 8_000


def test_what_a_sign_in_is_told_stays_small_in_the_middle_of_an_attack() -> None:
    watch = Watch()
    for number in range(2_000):
        watch.failure(f"user{number}", HOSTING if number % 2 else moved(HOSTING, number))

    context, _ = take_in(watch.memory, sign_in("ada", HOSTING))

    assert context is not None
    assert context.source_failures == 1_000
    assert len(encode_state(context)) < 600


def test_a_count_of_everybody_is_one_state() -> None:
    memory = Memory()
    for number in range(30):
        take_in(memory, sign_in(f"user{number}"))

    total = memory.get((Scope.FEATURE, TOTAL), FeatureState)

    assert total == FeatureState(count=30, children=30)


def test_late_counts_join_those_that_came_before() -> None:
    memory = Memory()
    take_in(memory, failed(at=START + 700))

    take_in(memory, replace(failed(), second=START))

    assert account_in(memory).recent(START + 700) == 2
