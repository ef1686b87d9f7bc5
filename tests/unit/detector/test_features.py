from msgspec.structs import replace

from detector.features import NO_FEATURES, Features, features_of, with_features
from detector.observations import Kind, Observation
from domain.client import ClientContext
from domain.evidence import UNKNOWN_DEVICE, UNKNOWN_NETWORK, Device, Network
from domain.ids import EventId, UserId
from tests.unit.detector.builders import LAPTOP, OSLO, START


def sign_in(
    network: Network = OSLO,
    device: Device = LAPTOP,
    ip: str | None = "203.0.113.7",
    user_agent: str | None = "Firefox",
) -> Observation:
    return Observation(
        kind=Kind.SIGN_IN,
        second=START,
        event_id=EventId("e1"),
        user_id=UserId("ada"),
        client=ClientContext(ip=ip, user_agent=user_agent),
        network=network,
        device=device,
    )


def test_an_address_belongs_to_a_carrier_and_a_country() -> None:
    features = features_of(sign_in())

    assert features.address == ("ip:203.0.113.7", "asn:64500", "country:NO")


def test_a_user_agent_is_a_browser_on_a_system_on_a_class_of_device() -> None:
    features = features_of(sign_in())

    assert features.agent[1:] == ("browser:Firefox 146", "os:Windows ?", "form:desktop")


def test_privacy_addresses_of_one_line_are_one_feature() -> None:
    network = replace(OSLO, prefix="2001:db8:1:2::/64", version=6)

    one = features_of(sign_in(network, ip="2001:db8:1:2::a"))
    other = features_of(sign_in(network, ip="2001:db8:1:2::b"))

    assert one == other


def test_without_an_autonomous_system_its_wider_range_stands_for_it() -> None:
    here = features_of(sign_in(replace(OSLO, asn=None)))
    nearby = features_of(sign_in(replace(OSLO, asn=None, prefix="203.0.99.0/24")))

    assert here.address[1] == nearby.address[1] == "range:203.0"


def test_a_long_user_agent_takes_no_more_room_than_a_short_one() -> None:
    features = features_of(sign_in(user_agent="Mozilla/5.0 " * 40))

    assert max(len(key) for key in features.keys) < 32


def test_what_is_not_known_is_a_value_of_its_own() -> None:
    features = features_of(sign_in(UNKNOWN_NETWORK, UNKNOWN_DEVICE, ip=None, user_agent=None))

    assert features.address == ("ip:?", "range:?", "country:?")


def test_a_new_address_every_day_does_not_push_out_last_summers_country() -> None:
    agent = ("ua:1", "browser:1", "os:1", "form:mobile")
    own = with_features(NO_FEATURES, Features(("ip:es", "asn:es", "country:ES"), agent))

    for day in range(500):
        own = with_features(own, Features((f"ip:{day}", "asn:no", "country:NO"), agent))

    assert own.counts(Features(("ip:es", "asn:es", "country:ES"), agent))[1:3] == (1, 1)


def test_sign_ins_are_counted_though_their_addresses_are_forgotten() -> None:
    agent = ("ua:1", "browser:1", "os:1", "form:mobile")
    own = NO_FEATURES

    for day in range(500):
        own = with_features(own, Features((f"ip:{day}", f"asn:{day}", "country:NO"), agent))

    assert own.sign_ins == 500
    assert sum(len(level) for level in own.levels) <= 80
