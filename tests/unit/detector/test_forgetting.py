"""Taking one user out of what is counted over many, and names that say nothing."""

import pytest

from detector.crowd_context import CrowdContext
from detector.crowd_names import CrowdNames, concealed_with, crowd_names, in_clear
from detector.crowd_states import AccountState, OriginState, SourceState, SprayState
from detector.features import FeatureCounts, Features, FeatureState
from detector.forgetting import without
from detector.loading import subject_of
from detector.memory import Scope, State
from detector.profile import FamilyTrace, UserProfile
from detector.tries import Tried, Tries
from domain.client import ClientContext
from domain.evidence import Device, Network
from domain.ids import UserId

ADA, BOB = UserId("ada"), UserId("bob")
TRIED = Tries((Tried(ADA, 3, 1.0), Tried(BOB, 1, 2.0)), ((1, 4),), ((1, 2),))
OF_BOB = Tries((Tried(BOB, 1, 2.0),), ((1, 4),), ((1, 2),))
CLIENT = ClientContext(ip="203.0.113.77", user_agent="Firefox", device_key="a device")
NETWORK = Network(prefix="203.0.113.0/24")
IPV6 = Network(prefix="2001:db8:1:2::/64", version=6)
LAPTOP = Device(platform="Windows", form="desktop", browser="Firefox", engine="Gecko")
FEATURES = Features(("ip:1", "asn:1", "country:NO"), ("ua:1", "browser:1", "os:1", "form:mobile"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            SourceState(TRIED, (ADA, BOB), ((20_000, 2),)),
            SourceState(OF_BOB, (BOB,), ((20_000, 2),)),
        ),
        (SourceState(TRIED, (BOB,)), SourceState(OF_BOB, (BOB,))),
        (SourceState(OF_BOB, (BOB, ADA)), SourceState(OF_BOB, (BOB,))),
        (SprayState(TRIED, hour=7), SprayState(OF_BOB, hour=7)),
        (OriginState(((ADA, 1.0), (BOB, 2.0))), OriginState(((BOB, 2.0),))),
    ],
    ids=["source", "tried at a source", "visitor of a source", "spray", "origin"],
)
def test_one_user_is_taken_out_and_the_numbers_stay(before: State, after: State) -> None:
    assert without(before, ADA) == after


@pytest.mark.parametrize(
    "state",
    [SourceState(OF_BOB, (BOB,)), SprayState(OF_BOB), OriginState(((BOB, 2.0),)), FeatureState(4)],
    ids=["source", "spray", "origin", "feature"],
)
def test_what_does_not_name_them_stays_the_same_object(state: State) -> None:
    assert without(state, ADA) is state


@pytest.mark.parametrize(
    ("scope", "key", "state", "subject"),
    [
        (Scope.PROFILE, ADA, UserProfile(), ADA),
        (Scope.ACCOUNT, ADA, AccountState(), ADA),
        (Scope.TRACE, "a family", FamilyTrace(ADA, 1.0, 1.0, "a device"), ADA),
        (
            Scope.CONTEXT,
            "an event",
            CrowdContext(FeatureCounts(FEATURES, 1, 1, (), ()), user_id=ADA),
            ADA,
        ),
        (Scope.SOURCE, "a network", SourceState(OF_BOB, (BOB,)), None),
        (Scope.FEATURE, "ip:1", FeatureState(), None),
    ],
    ids=["profile", "account", "trace", "context", "source", "feature"],
)
def test_what_is_about_one_user_goes_with_their_erasure(
    scope: Scope, key: str, state: State, subject: UserId | None
) -> None:
    assert subject_of((scope, key), state) == subject


def test_concealed_names_tell_apart_and_say_nothing() -> None:
    conceal = concealed_with(b"k" * 32)

    here = crowd_names(CLIENT, NETWORK, LAPTOP, conceal)
    there = crowd_names(CLIENT, IPV6, LAPTOP, conceal)

    assert here == crowd_names(CLIENT, NETWORK, LAPTOP, conceal)
    assert len({here.network, here.address, here.agent, here.origin}) == 4
    assert here.agent == there.agent
    assert not {here.network, here.address, here.origin} & {there.network, there.address}
    assert {len(each) for each in (here.network or "", here.address, here.origin)} == {16}
    assert not [each for each in ("203.0", "Firefox", "a device") if each in str(here)]


def test_names_under_another_key_are_others() -> None:
    one, other = concealed_with(b"k" * 32), concealed_with(b"l" * 32)

    assert one("203.0.113.0/24") != other("203.0.113.0/24")


def test_what_is_unknown_is_not_concealed() -> None:
    names = crowd_names(ClientContext(), Network(), LAPTOP, concealed_with(b"k" * 32))

    assert (names.network, names.address, names.agent) == (None, "?", "?")


def test_in_clear_a_client_is_called_what_it_is() -> None:
    assert crowd_names(CLIENT, NETWORK, LAPTOP, in_clear) == CrowdNames(
        "203.0.113.0/24", "203.0.113.77", "Firefox", "203.0.113.0/24|a device"
    )
    assert crowd_names(CLIENT, IPV6, LAPTOP, in_clear).address == "2001:db8:1:2::/64"
