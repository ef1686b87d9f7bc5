"""States: small whatever happens, and the same after a night in the database."""

import time
from itertools import pairwise

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.memory import Memory, Scope, State, decode_state, encode_state
from detector.observations import Kind, Observation
from detector.observing import observe
from detector.policy import RulesInForce
from detector.profile import FamilyTrace, UserProfile
from detector.rulebook import Rulebook, rulebook
from domain.client import ClientContext
from domain.detection import Verdict
from domain.evidence import Device, Network
from domain.ids import EventId, FamilyId, UserId
from tests.unit.detector.builders import START, Watch

PROFILE_BYTES = 8192
"""Where every name is as long as the readers let it be; an ordinary profile has a fifth."""
TRACE_BYTES = 2048
USER = UserId("0195513a-0000-7000-8000-00000000ada1")
FAMILIES = [FamilyId(f"0195513a-0000-7000-8000-00000000fa0{number}") for number in range(3)]
WITHOUT_RULES = RulesInForce(Rulebook([]))
WITH_RULES = RulesInForce(rulebook())


def hostile(number: int, kind: Kind, family: FamilyId = FAMILIES[0]) -> Observation:
    """An event that shows nothing that was ever seen before, in names as long as they get."""
    name = f"{number:06d}" * 7
    return Observation(
        kind=kind,
        second=START + number * 61,
        event_id=EventId(f"0195513a-0000-7000-8000-{number:012x}"),
        user_id=USER,
        family_id=family,
        generation=number,
        current_generation=number + 1,
        client=ClientContext(
            ip=f"2001:db8::{number:x}",
            user_agent=f"{name}{'u' * 400}",
            device_key=f"{number:022d}",
        ),
        network=Network(
            prefix=f"2001:db8:{number & 0xFFFF:x}:{number >> 16:x}::/64",
            version=6,
            asn=4_200_000_000 + number,
            country=chr(65 + number % 26) + chr(65 + number // 26 % 26),
            city=name[:30],
            latitude=number % 90 + 0.1234567,
            longitude=number % 180 + 0.7654321,
            radius_km=50,
        ),
        device=Device(
            platform=name[:40], form="mobile", browser=name[:40], engine="Blink", model=name[:40]
        ),
    )


def states_of(memory: Memory) -> dict[Scope, list[State]]:
    states: dict[Scope, list[State]] = {}
    for (scope, _), state in memory.changes():
        if state is not None:
            states.setdefault(scope, []).append(state)
    return states


def test_ten_thousand_hostile_events_leave_small_states() -> None:
    for rules in (WITHOUT_RULES, WITH_RULES):
        memory = Memory()
        for number in range(10_000):
            kind = Kind.SIGN_IN if number % 50 == 0 else Kind.REFRESH
            observe(memory, hostile(number, kind), rules)

        states = states_of(memory)

        assert max(len(encode_state(each)) for each in states[Scope.PROFILE]) < PROFILE_BYTES
        assert max(len(encode_state(each)) for each in states[Scope.TRACE]) < TRACE_BYTES


def test_an_ordinary_profile_is_under_four_kilobytes() -> None:
    watch = Watch()
    watch.settle(sign_ins=60)

    sizes = [len(encode_state(each)) for each in states_of(watch.memory)[Scope.PROFILE]]

    assert max(sizes) < 1024


def test_an_event_takes_as_long_after_ten_thousand_as_after_a_hundred() -> None:
    memory = Memory()
    spent = []
    for number in range(10_000):
        seen = hostile(number, Kind.REFRESH)
        began = time.process_time_ns()
        observe(memory, seen, WITH_RULES)
        spent.append(time.process_time_ns() - began)

    early, late = sorted(spent[200:1200]), sorted(spent[-1000:])

    assert late[500] < 3 * early[500]


KINDS = [Kind.SIGN_IN, Kind.REFRESH, Kind.RETRY, Kind.LATE_RETRY, Kind.REUSE, Kind.UNRECOGNISED]
LATER = [Kind.STEPPED_UP, Kind.VERDICT, Kind.ENDED]
LIFE = st.lists(
    st.tuples(
        st.sampled_from(KINDS * 3 + LATER),
        st.sampled_from(FAMILIES),
        st.integers(0, 40),
        st.sampled_from([-5, 0, 2, 61, 600, 605, 7200, 90_000]),
        st.sampled_from(list(Verdict)),
    ),
    max_size=120,
)


@settings(max_examples=60, deadline=None)
@given(life=LIFE)
def test_states_stay_small_and_read_back_equal_whatever_happens(
    life: list[tuple[Kind, FamilyId, int, int, Verdict]],
) -> None:
    memory, now = Memory(), START
    for kind, family, number, wait, verdict in life:
        now += wait
        seen = hostile(number, kind, family)
        observe(
            memory,
            Observation(
                kind=kind,
                second=now,
                event_id=seen.event_id,
                user_id=seen.user_id,
                family_id=family,
                generation=number,
                current_generation=number + 1,
                client=seen.client,
                network=seen.network,
                device=seen.device,
                verdict=verdict if kind is Kind.VERDICT else None,
            ),
            WITH_RULES,
        )

    for scope, states in states_of(memory).items():
        for state in states:
            stored = encode_state(state)
            assert decode_state(scope, stored) == state
            if isinstance(state, UserProfile):
                assert len(stored) < PROFILE_BYTES
            if isinstance(state, FamilyTrace):
                assert len(stored) < TRACE_BYTES
                assert all(one[0] >= other[0] for one, other in pairwise(state.moves[:1]))


def test_a_state_that_an_earlier_build_wrote_reads_with_the_new_fields_defaults() -> None:
    full = FamilyTrace(user_id=USER, started=1.0, last=2.0, device="a/b/c/d")
    fields = msgspec.msgpack.decode(encode_state(full))
    older = msgspec.msgpack.encode(fields[:17])

    assert decode_state(Scope.TRACE, older) == full
