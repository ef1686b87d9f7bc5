"""Which findings are one alert."""

from msgspec.structs import replace

from detector.findings import Fact, Finding, Response, Severity
from detector.groups import GROUP_FOR_S, GroupState, Raise, Repeat, alert_id_of, group_key, grouped
from domain.ids import EventId, FamilyId, UserId
from tests.unit.detector.builders import START

FINDING = Finding(
    rule="device-change",
    rule_version=1,
    severity=Severity.LOW,
    response=Response.ALERT,
    facts=(Fact("other_platform", 60),),
    score=60.0,
    second=START,
    event_id=EventId("e1"),
    user_id=UserId("ada"),
    family_id=FamilyId("ada-1"),
    group="family:ada-1",
)


def later(seconds: float, **changes: object) -> Finding:
    number = int(seconds * 10) + 2
    changed = {"second": START + seconds, "event_id": EventId(f"e{number}"), **changes}
    return replace(FINDING, **changed)


def raised() -> GroupState:
    state, said = grouped(None, FINDING)
    assert isinstance(said, Raise)
    return state


def test_the_first_is_an_alert() -> None:
    state, said = grouped(None, FINDING)

    assert said == Raise(alert_id_of(FINDING), FINDING)
    assert state.alert_id == alert_id_of(FINDING)


def test_a_replay_names_the_alert_the_same() -> None:
    assert alert_id_of(FINDING) == alert_id_of(replace(FINDING, facts=(), score=None))


def test_another_rule_version_subject_or_event_is_another_alert() -> None:
    others = [
        replace(FINDING, rule="network-change"),
        replace(FINDING, rule_version=2),
        replace(FINDING, group="family:ada-2"),
        replace(FINDING, event_id=EventId("e2")),
    ]

    assert len({alert_id_of(each) for each in (FINDING, *others)}) == 5


def test_a_rule_and_its_subject_are_a_group() -> None:
    assert group_key(FINDING) == group_key(later(30))
    assert group_key(FINDING) != group_key(replace(FINDING, rule="network-change"))


def test_a_repeat_within_the_minute_is_only_counted() -> None:
    state, said = grouped(raised(), later(30))

    assert said is None
    assert state.pending == 1


def test_a_repeat_after_the_minute_tells_of_those_before() -> None:
    state, _ = grouped(raised(), later(30))

    state, said = grouped(state, later(70))

    assert said == Repeat(alert_id_of(FINDING), later(70), 2)
    assert state.pending == 0


def test_ten_thousand_within_the_hour_are_one_alert_and_a_repeat_a_minute() -> None:
    state, said = raised(), []
    for number in range(1, 10_000):
        state, each = grouped(state, later(number * 0.35))
        said.append(each)

    repeats = [each for each in said if each is not None]
    assert all(isinstance(each, Repeat) for each in repeats)
    assert len(repeats) < 60


def test_what_is_graver_is_told_at_once() -> None:
    state, said = grouped(raised(), later(1, response=Response.REVOKE_FAMILY))

    assert isinstance(said, Repeat)
    assert state.response == Response.REVOKE_FAMILY.rank


def test_after_an_hour_it_is_a_new_alert() -> None:
    _, said = grouped(raised(), later(GROUP_FOR_S))

    assert isinstance(said, Raise)
    assert said.alert_id != alert_id_of(FINDING)
