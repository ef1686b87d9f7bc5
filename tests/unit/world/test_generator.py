"""What a generated world looks like: its format, its rules, its figures."""

import hashlib
from collections import Counter
from datetime import UTC, datetime
from statistics import median, quantiles

import pytest

from detector.world.atlas import atlas, distance_km
from detector.world.attacks import GROUP_KINDS, VARIANTS, Kind
from detector.world.generator import generate
from detector.world.people import SIGN_INS_CAP, sign_in_count
from detector.world.plan import World, dice_for
from detector.world.traps import Trap
from domain.client import canonical_ip
from tests.unit.world.domain_player import DomainPlayer
from tests.unit.world.requests import Request, read

SMALL = World(seed=11, users=400, days=14, attacks=4)


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    return list(generate(SMALL))


@pytest.fixture(scope="module")
def requests(lines: list[bytes]) -> list[Request]:
    return [read(line) for line in lines]


def kind_of(label: str) -> str:
    return label.partition("#")[0]


def test_every_line_has_the_members_that_its_request_needs(requests: list[Request]) -> None:
    needs = {
        "login": {"user", "family", "ip", "user_agent", "geo"},
        "login_failed": {"user", "ip", "user_agent", "geo"},
        "refresh": {"family", "generation", "ip", "user_agent", "geo"},
        "logout": {"family", "ip", "user_agent", "geo"},
        "verdict": {"family", "verdict"},
    }

    for request in requests:
        assert all(getattr(request, name) for name in needs[request.do]), request
        assert request.generation >= (1 if request.do == "refresh" else 0)
        assert request.label.startswith(("honest", "attack:"))


def test_addresses_are_spelled_as_the_domain_spells_them(requests: list[Request]) -> None:
    addresses = {request.ip for request in requests if request.ip}

    assert all(canonical_ip(ip) == ip for ip in addresses)


def test_an_address_tells_the_carrier_that_the_line_names(requests: list[Request]) -> None:
    for request in requests:
        if request.geo is not None:
            carrier = atlas().carrier_of(request.ip)
            assert carrier is not None
            assert carrier.asn == request.geo.asn


def test_lines_are_in_time_order(requests: list[Request]) -> None:
    times = [datetime.fromisoformat(request.at) for request in requests]

    assert times == sorted(times)
    assert all(at.tzinfo == UTC for at in times)


def test_the_same_parameters_make_the_same_file_and_another_seed_another(
    lines: list[bytes],
) -> None:
    again = list(generate(SMALL))
    other = list(generate(World(seed=12, users=400, days=14, attacks=4)))

    assert digest(again) == digest(lines)
    assert digest(other) != digest(lines)


def digest(lines: list[bytes]) -> str:
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def test_without_geo_the_same_things_happen_and_no_line_says_where(
    requests: list[Request],
) -> None:
    blind = [read(line) for line in generate(World(seed=11, users=400, attacks=4, geo=False))]

    assert all(request.geo is None for request in blind)
    assert [(each.at, each.ip) for each in blind] == [(each.at, each.ip) for each in requests]


def test_families_begin_once_with_a_sign_in(requests: list[Request]) -> None:
    begun: set[str] = set()

    for request in requests:
        if request.do == "login":
            assert request.family not in begun
            begun.add(request.family)
        elif request.family:
            assert request.family in begun, request


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_domain_alone_refuses_nothing_in_families_without_an_attacker(seed: int) -> None:
    played = [read(line) for line in generate(World(seed=seed, users=300, days=21, attacks=2))]
    attacked = {each.family for each in played if each.label.startswith("attack")}
    player, results = DomainPlayer(), Counter[str]()

    for request in played:
        result = player.play(request)
        if request.family not in attacked:
            results[result] += 1

    assert set(results) == {"ok", "retry"}


def test_the_domain_alone_catches_what_reuse_must_tell(requests: list[Request]) -> None:
    player = DomainPlayer()
    refused: set[str] = set()
    attacked: dict[str, str] = {}

    for request in requests:
        if request.label.startswith("attack") and request.do == "refresh":
            attacked.setdefault(request.label, request.family)
        if player.play(request) == "token_reused":
            refused.add(request.family)

    told_by_reuse = {"replay-asn-device", "replay-neighbour", "slow-theft", "reuse-outside-window"}
    for label, family in attacked.items():
        if label.removeprefix("attack:").partition("#")[0].partition(":")[0] in told_by_reuse:
            assert family in refused, label


def test_every_trap_and_every_attack_is_there(requests: list[Request]) -> None:
    labels = {kind_of(request.label) for request in requests}

    assert {trap.label for trap in Trap} <= labels
    assert "honest:after-theft" in labels
    for kind in Kind:
        for variant in VARIANTS.get(kind, ("",)):
            assert f"attack:{kind}{':' if variant else ''}{variant}" in labels


def test_there_are_as_many_attacks_of_a_kind_as_were_asked_for(requests: list[Request]) -> None:
    numbers: dict[str, set[str]] = {}
    for request in requests:
        if request.label.startswith("attack"):
            name, _, number = request.label.partition("#")
            numbers.setdefault(name.split(":")[1], set()).add(number)

    # A theft may find no moment to happen in, when its owner hardly comes back.
    for kind in Kind:
        asked = 1 if kind in GROUP_KINDS else 4
        assert asked - 1 <= len(numbers[kind.value]) <= asked, kind


def test_sign_ins_a_user_are_as_published() -> None:
    dice = dice_for(SMALL, "counts")

    counts = [sign_in_count(dice) for _ in range(20_000)]

    assert median(counts) == 2
    percentiles = quantiles(counts, n=100)
    assert 8 <= percentiles[89] <= 10
    assert 12 <= percentiles[94] <= 15
    assert 26 <= percentiles[98] <= SIGN_INS_CAP


def test_devices_are_mobile_desktop_and_tablet_as_published() -> None:
    world = World(seed=5, users=3_000, days=7, attacks=0)
    agents = Counter[str]()

    for line in generate(world):
        request = read(line)
        if request.do == "login":
            agents["mobile" if "Mobile" in request.user_agent else "other"] += 1

    # Traps that need a phone or a desktop shift it a little.
    assert 0.62 <= agents["mobile"] / agents.total() <= 0.78


def test_chromium_sends_hints_that_fit_its_user_agent_and_others_send_none(
    requests: list[Request],
) -> None:
    for request in requests:
        if not request.label.startswith("honest") or request.do == "verdict":
            continue
        agent, hints = request.user_agent, request.hints
        is_chromium = " Chrome/" in agent
        assert bool(hints) == is_chromium, request
        if is_chromium:
            major = agent.partition(" Chrome/")[2].partition(".")[0]
            assert f'"Chromium";v="{major}"' in hints["sec-ch-ua"]
            assert hints["sec-ch-ua-mobile"] == ("?1" if " Mobile " in agent else "?0")
            assert hints["sec-ch-ua-platform"].strip('"') in {"Windows", "macOS", "Android"}


def test_browsers_update_themselves_within_a_session(requests: list[Request]) -> None:
    agents: dict[str, set[str]] = {}

    for request in requests:
        if request.label == "honest:auto-update" and request.do == "refresh":
            agents.setdefault(request.family, set()).add(request.user_agent)

    assert any(len(seen) > 1 for seen in agents.values())


def test_carrier_nat_flaps_within_one_asn(requests: list[Request]) -> None:
    seen = [each for each in requests if each.label == "honest:carrier-nat" and each.ip]
    asns: dict[str, set[int]] = {}
    addresses: dict[str, set[str]] = {}

    for request in seen:
        if request.family and request.geo:
            asns.setdefault(request.family, set()).add(request.geo.asn)
            addresses.setdefault(request.family, set()).add(request.ip)

    assert all(len(each) == 1 for each in asns.values())
    assert max(len(each) for each in addresses.values()) > 20


def test_a_commuter_changes_networks_within_one_city(requests: list[Request]) -> None:
    places: dict[str, set[tuple[str, int]]] = {}

    for request in requests:
        if request.label == "honest:commute" and request.geo and request.family:
            user = request.family.partition(".")[0]
            places.setdefault(user, set()).add((request.geo.city, request.geo.asn))

    assert all(len({city for city, _ in each}) == 1 for each in places.values())
    assert median(len(each) for each in places.values()) >= 2


def test_the_company_shares_one_address(requests: list[Request]) -> None:
    users: dict[str, set[str]] = {}

    for request in requests:
        if request.label == "honest:corporate-proxy" and request.family:
            users.setdefault(request.ip, set()).add(request.family.partition(".")[0])

    assert max(len(each) for each in users.values()) >= 8


def test_a_thief_in_another_network_is_in_none_that_the_owner_was_ever_in(
    requests: list[Request],
) -> None:
    owned: dict[str, set[int]] = {}

    for request in requests:
        if not request.family or request.geo is None:
            continue
        if request.label.startswith(("attack:replay-asn", "attack:lockstep:other")):
            assert request.geo.asn not in owned[request.family], request
        elif request.label.startswith("honest"):
            owned.setdefault(request.family, set()).add(request.geo.asn)


def test_impossible_travel_is_impossible(requests: list[Request]) -> None:
    cities = {(city.country, city.name): city for each in atlas().countries for city in each.cities}
    last_seen: dict[str, Request] = {}
    checked = 0

    for request in requests:
        user = request.user or request.family.partition(".")[0]
        if request.label.startswith("attack:impossible-travel") and request.do == "login":
            before = last_seen[user]
            assert before.geo
            assert request.geo
            hours = seconds_between(before, request) / 3600
            way = distance_km(
                cities[before.geo.country, before.geo.city],
                cities[request.geo.country, request.geo.city],
            )
            assert way / hours > 900
            checked += 1
        elif request.label.startswith("honest") and request.geo:
            last_seen[user] = request

    assert checked == 4


def seconds_between(one: Request, other: Request) -> float:
    return (datetime.fromisoformat(other.at) - datetime.fromisoformat(one.at)).total_seconds()


def test_more_attacks_than_users_are_refused() -> None:
    with pytest.raises(ValueError, match="fewer attacks, more users"):
        list(generate(World(users=20, attacks=10)))


def test_a_world_of_one_user_can_be_made() -> None:
    lines = list(generate(World(users=1, attacks=0)))

    assert lines
