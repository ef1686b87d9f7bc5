"""Looking networks up in real GeoIP files: both schemas, reloads, and files that are no good."""

import asyncio
import contextlib
import logging
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.evidence import UNKNOWN_NETWORK, Network
from infra.geoip import GeoIp
from infra.geoip_records import UNSTATED_CITY_RADIUS_KM, UNSTATED_COUNTRY_RADIUS_KM
from tests.geo_files import (
    BUILT,
    LISBON,
    OSLO,
    RENTED,
    Site,
    dbip_asn,
    dbip_city,
    flat_city,
    maxmind_anonymous,
    maxmind_asn,
    maxmind_city,
    maxmind_country,
    write_file,
)

OSLO_IP, LISBON_IP, RENTED_IP, CLOUD_IP = (
    "192.0.2.7",
    "198.51.100.7",
    "203.0.113.7",
    "203.0.113.130",
)
AT_SEA_IP, NOWHERE_IP = "203.0.113.200", "10.0.0.1"


def replace(path: Path, newer: Path) -> None:
    """Put a new file in place as an updater does, in one step."""
    newer.replace(path)


# ------------------------------------------------------------------------------------- look-ups


def test_maxmind_files_tell_place_and_operator(tmp_path: Path) -> None:
    geoip = GeoIp(maxmind_city(tmp_path / "city"), maxmind_asn(tmp_path / "asn"))

    assert geoip.network(OSLO_IP) == Network(
        prefix="192.0.2.0/24",
        version=4,
        asn=64500,
        as_org="Nordic Broadband",
        country="NO",
        city="Oslo",
        latitude=59.91,
        longitude=10.75,
        radius_km=20,
        epoch=BUILT,
    )


def test_ipv6_addresses_are_found_in_the_same_files(tmp_path: Path) -> None:
    geoip = GeoIp(maxmind_city(tmp_path / "city"), maxmind_asn(tmp_path / "asn"))

    network = geoip.network("2001:db8:2::1:2:3")

    assert (network.prefix, network.version) == ("2001:db8:2::/64", 6)
    assert (network.city, network.asn) == ("Lisbon", 64501)


def test_dbip_files_tell_the_same_but_for_the_radius(tmp_path: Path) -> None:
    maxmind = GeoIp(maxmind_city(tmp_path / "city"), maxmind_asn(tmp_path / "asn"))
    dbip = GeoIp(dbip_city(tmp_path / "dbip-city"), dbip_asn(tmp_path / "dbip-asn"))

    def told(network: Network) -> tuple[object, ...]:
        return (network.country, network.city, network.latitude, network.asn, network.as_org)

    for ip in (OSLO_IP, LISBON_IP, CLOUD_IP, AT_SEA_IP, "2001:db8:1::1"):
        assert told(dbip.network(ip)) == told(maxmind.network(ip))
    assert dbip.network(OSLO_IP).radius_km == UNSTATED_CITY_RADIUS_KM
    assert dbip.network(CLOUD_IP).radius_km == UNSTATED_COUNTRY_RADIUS_KM


def test_flat_records_are_read_too(tmp_path: Path) -> None:
    records = [("192.0.2.0/24", {"asn": "AS64500", "as_name": "Nordic Broadband"})]
    asn = write_file(tmp_path / "asn", "ipinfo asn", records)
    geoip = GeoIp(flat_city(tmp_path / "city"), asn)

    oslo, at_sea = geoip.network(OSLO_IP), geoip.network(AT_SEA_IP)

    assert (oslo.country, oslo.city, oslo.latitude, oslo.longitude) == ("NO", "Oslo", 59.91, 10.75)
    assert (oslo.asn, oslo.as_org) == (64500, "Nordic Broadband")
    assert (at_sea.country, at_sea.city, at_sea.latitude) == ("US", None, None)


def test_a_country_file_tells_the_country_only(tmp_path: Path) -> None:
    network = GeoIp(maxmind_country(tmp_path / "country")).network(OSLO_IP)

    assert (network.country, network.city, network.latitude) == ("NO", None, None)


def test_an_enterprise_and_an_isp_file_serve_as_well(tmp_path: Path) -> None:
    place = {"country": {"iso_code": "NO"}, "city": {"names": {"en": "Oslo"}}}
    operator = {"autonomous_system_number": 64500, "isp": "Nordic", "organization": "Nordic"}
    geoip = GeoIp(
        write_file(tmp_path / "city", "GeoIP2-Enterprise", [(OSLO.network, place)]),
        write_file(tmp_path / "asn", "GeoIP2-ISP", [(OSLO.network, operator)]),
    )

    network = geoip.network(OSLO_IP)

    assert (network.country, network.city, network.asn) == ("NO", "Oslo", 64500)


def test_a_place_without_coordinates_has_no_radius(tmp_path: Path) -> None:
    network = GeoIp(maxmind_city(tmp_path / "city")).network(AT_SEA_IP)

    assert (network.country, network.latitude, network.radius_km) == ("US", None, 0)


def test_coordinates_that_are_nowhere_on_earth_are_not_taken(tmp_path: Path) -> None:
    odd = Site("192.0.2.0/24", "NO", "Oslo", 591.0, 10.75, 20)

    network = GeoIp(maxmind_city(tmp_path / "city", [odd])).network(OSLO_IP)

    assert (network.city, network.latitude, network.longitude) == ("Oslo", None, None)


def test_an_address_that_is_in_no_file_has_its_prefix_only(tmp_path: Path) -> None:
    geoip = GeoIp(maxmind_city(tmp_path / "city"), maxmind_asn(tmp_path / "asn"))

    assert geoip.network(NOWHERE_IP) == Network(prefix="10.0.0.0/24")


def test_without_files_an_address_has_its_prefix_only() -> None:
    assert GeoIp().network("2001:db8::1") == Network(prefix="2001:db8::/64", version=6)


def test_a_file_of_ipv4_alone_says_nothing_of_ipv6(tmp_path: Path) -> None:
    records = [("192.0.2.0/24", {"autonomous_system_number": 64500})]
    asn = write_file(tmp_path / "asn", "GeoLite2-ASN", records, ip_version=4)
    geoip = GeoIp(asn=asn)

    assert geoip.network(OSLO_IP).asn == 64500
    assert geoip.network("2001:db8::1") == Network(prefix="2001:db8::/64", version=6)


def test_the_newest_file_that_had_an_answer_gives_the_epoch(tmp_path: Path) -> None:
    geoip = GeoIp(
        maxmind_city(tmp_path / "city", built=BUILT + 5),
        maxmind_asn(tmp_path / "asn", [LISBON], built=BUILT + 9),
    )

    assert geoip.network(OSLO_IP).epoch == BUILT + 5
    assert geoip.network(LISBON_IP).epoch == BUILT + 9
    assert geoip.network(NOWHERE_IP).epoch is None


def test_answers_are_remembered(tmp_path: Path) -> None:
    geoip = GeoIp(maxmind_city(tmp_path / "city"))

    assert geoip.network(OSLO_IP) is geoip.network(OSLO_IP)


@pytest.mark.parametrize("text", [None, "", "unknown", "192.0.2.256", "::1::", "\x00", "\ud800"])
def test_what_is_no_address_is_unknown(tmp_path: Path, text: str | None) -> None:
    geoip = GeoIp(maxmind_city(tmp_path / "city"))

    assert geoip.network(text) == UNKNOWN_NETWORK


def test_no_text_makes_it_raise(tmp_path: Path) -> None:
    geoip = GeoIp(dbip_city(tmp_path / "city"), maxmind_asn(tmp_path / "asn"))

    @given(
        st.text(max_size=60) | st.ip_addresses().map(str) | st.ip_addresses().map("{}%eth0".format)
    )
    def any_text(text: str) -> None:
        geoip.network(text)

    any_text()


# ------------------------------------------------------------------ hosting, anonymous, satellite


def test_without_an_anonymous_file_known_organisations_are_hosting(tmp_path: Path) -> None:
    geoip = GeoIp(asn=maxmind_asn(tmp_path / "asn"))

    assert geoip.network(RENTED_IP).hosting
    assert geoip.network(CLOUD_IP).hosting
    assert geoip.network(AT_SEA_IP).satellite
    assert not geoip.network(OSLO_IP).is_elsewhere_by_design


def test_an_anonymous_file_decides_what_is_hosting(tmp_path: Path) -> None:
    flags = {"192.0.2.0/24": ["is_hosting_provider"], "203.0.113.192/26": ["is_hosting_provider"]}
    geoip = GeoIp(
        asn=maxmind_asn(tmp_path / "asn"),
        anonymous=maxmind_anonymous(tmp_path / "anonymous", flags),
    )

    assert geoip.network(OSLO_IP).hosting
    assert not geoip.network(OSLO_IP).anonymous  # MaxMind calls hosting anonymous as well
    assert not geoip.network(RENTED_IP).hosting
    assert geoip.network(AT_SEA_IP).satellite  # of which it says nothing


@pytest.mark.parametrize(
    "flag",
    ["is_anonymous_vpn", "is_public_proxy", "is_residential_proxy", "is_tor_exit_node"],
)
def test_what_hides_people_is_anonymous(tmp_path: Path, flag: str) -> None:
    anonymous = maxmind_anonymous(tmp_path / "anonymous", {"192.0.2.0/24": [flag]})

    network = GeoIp(anonymous=anonymous).network(OSLO_IP)

    assert (network.anonymous, network.hosting) == (True, False)


def test_anonymous_without_a_further_word_is_anonymous(tmp_path: Path) -> None:
    anonymous = maxmind_anonymous(tmp_path / "anonymous", {"192.0.2.0/24": []})

    assert GeoIp(anonymous=anonymous).network(OSLO_IP).anonymous


def test_an_anonymous_plus_file_serves_as_well(tmp_path: Path) -> None:
    records = [("192.0.2.0/24", {"is_anonymous": True, "is_anonymous_vpn": True})]
    path = write_file(tmp_path / "anonymous", "GeoIP-Anonymous-Plus", records)

    assert GeoIp(anonymous=path).network(OSLO_IP).anonymous


def test_privacy_flags_of_others_are_read(tmp_path: Path) -> None:
    records: list[tuple[str, dict[str, object]]] = [
        ("192.0.2.0/24", {"vpn": "true", "hosting": "false"}),
        ("198.51.100.0/24", {"vpn": False, "hosting": True}),
    ]
    geoip = GeoIp(anonymous=write_file(tmp_path / "anonymous", "ipinfo privacy", records))

    oslo, lisbon = geoip.network(OSLO_IP), geoip.network(LISBON_IP)

    assert (oslo.anonymous, oslo.hosting) == (True, False)
    assert (lisbon.anonymous, lisbon.hosting) == (False, True)


# ------------------------------------------------------------------------------------- reloading


def test_a_file_that_comes_later_is_used(tmp_path: Path) -> None:
    geoip = GeoIp(tmp_path / "city")
    before = geoip.network(OSLO_IP)

    maxmind_city(tmp_path / "city")
    geoip.refresh()

    assert before.city is None
    assert geoip.network(OSLO_IP).city == "Oslo"


def test_a_newer_file_takes_over_and_old_answers_are_forgotten(tmp_path: Path) -> None:
    path = maxmind_city(tmp_path / "city")
    geoip = GeoIp(path)
    before = geoip.network(OSLO_IP)

    moved = Site(OSLO.network, "NO", "Bergen")
    replace(path, maxmind_city(tmp_path / "newer", [moved], built=BUILT + 86400))
    geoip.refresh()

    assert (before.city, geoip.network(OSLO_IP).city) == ("Oslo", "Bergen")
    assert geoip.states()["geoip_city"] == "GeoLite2-City, built 2026-09-22"


def test_a_file_that_did_not_change_keeps_its_answers(tmp_path: Path) -> None:
    geoip = GeoIp(maxmind_city(tmp_path / "city"))
    before = geoip.network(OSLO_IP)

    geoip.refresh()

    assert geoip.network(OSLO_IP) is before


def test_the_other_schema_may_take_over(tmp_path: Path) -> None:
    path = maxmind_city(tmp_path / "city")
    geoip = GeoIp(path)

    replace(path, dbip_city(tmp_path / "newer"))
    geoip.refresh()

    assert geoip.network(OSLO_IP).radius_km == UNSTATED_CITY_RADIUS_KM


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_half_written_file_leaves_the_old_one_in_use_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kept: float
) -> None:
    path = maxmind_city(tmp_path / "city")
    geoip = GeoIp(path)
    whole = path.read_bytes()

    path.write_bytes(whole[: int(len(whole) * kept)])
    with caplog.at_level(logging.WARNING):
        geoip.refresh()
        geoip.refresh()

    assert geoip.network(OSLO_IP).city == "Oslo"
    assert geoip.states()["geoip_city"] == (
        "GeoLite2-City, built 2026-09-21; not a readable MaxMind DB file"
    )
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "stays in use" in caplog.text


def test_a_file_that_is_complete_at_last_is_used(tmp_path: Path) -> None:
    path = maxmind_city(tmp_path / "city")
    geoip = GeoIp(path)
    newer = maxmind_city(tmp_path / "newer", [Site(OSLO.network, "NO", "Bergen")]).read_bytes()

    path.write_bytes(newer[:100])
    geoip.refresh()
    path.write_bytes(newer)
    geoip.refresh()

    assert geoip.network(OSLO_IP).city == "Bergen"


def test_a_file_that_goes_away_stays_in_use(tmp_path: Path) -> None:
    path = maxmind_city(tmp_path / "city")
    geoip = GeoIp(path)

    path.unlink()
    geoip.refresh()

    assert geoip.network(OSLO_IP).city == "Oslo"
    assert geoip.states()["geoip_city"] == "GeoLite2-City, built 2026-09-21; no such file"


@pytest.mark.parametrize("content", [b"", b"not a database", os.urandom(5000)])
def test_a_file_that_is_none_is_not_used(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "city"
    path.write_bytes(content)

    geoip = GeoIp(path)

    assert geoip.network(OSLO_IP).city is None
    assert geoip.states()["geoip_city"] == "not a readable MaxMind DB file"


def test_a_folder_is_not_used(tmp_path: Path) -> None:
    assert GeoIp(tmp_path).states()["geoip_city"] == "Is a directory"


def test_a_file_of_another_subject_is_refused(tmp_path: Path) -> None:
    maxmind, dbip = maxmind_asn(tmp_path / "maxmind"), dbip_asn(tmp_path / "dbip")

    assert GeoIp(maxmind).states()["geoip_city"] == "GeoLite2-ASN says nothing of places"
    assert GeoIp(dbip).states()["geoip_city"] == (
        "DBIP-ASN-Lite (compat=GeoLite2-ASN) says nothing of places"
    )


def test_records_of_another_shape_than_their_type_says_are_refused(tmp_path: Path) -> None:
    records = [("192.0.2.0/24", {"country": "NO", "city": "Oslo"})]

    geoip = GeoIp(write_file(tmp_path / "city", "GeoLite2-City", records))

    assert geoip.states()["geoip_city"] == "not a readable MaxMind DB file"


def test_damage_inside_a_file_costs_answers_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = [(f"10.0.{n}.0/24", {"country": {"iso_code": "NO"}}) for n in range(200)]
    good += [(f"10.1.{n}.0/24", {"country": {"iso_code": "NO"}}) for n in range(200)]
    good += [(f"10.2.{n}.0/24", {"country": {"iso_code": "NO"}}) for n in range(200)]
    bad = [("192.0.2.0/24", {"country": "not what the type says"})]
    geoip = GeoIp(write_file(tmp_path / "city", "GeoLite2-City", [*good, *bad]))

    with caplog.at_level(logging.WARNING):
        networks = [geoip.network("192.0.2.1"), geoip.network("192.0.2.2")]

    assert [network.country for network in networks] == [None, None]
    assert geoip.network("10.0.3.1").country == "NO"
    assert len(caplog.records) == 1
    assert "192.0.2" not in caplog.text


def test_writing_over_a_file_in_use_does_not_end_the_process(tmp_path: Path) -> None:
    many = [Site(f"10.{n // 256}.{n % 256}.0/24", "NO", f"Town {n}") for n in range(3000)]
    path = maxmind_city(tmp_path / "city", many)
    assert path.stat().st_size > 10 * resource.getpagesize()
    program = (
        "import sys, pathlib\n"
        "from infra.geoip import GeoIp\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "geoip = GeoIp(path)\n"
        "path.write_bytes(b'')\n"
        "print([geoip.network(f'10.{n // 256}.{n % 256}.1').city for n in range(3000)][-1])\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "Town 2999\n")


async def test_it_looks_for_changes_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "city"
    geoip = GeoIp(path)
    watching = asyncio.create_task(geoip.run(every_s=0.01))

    maxmind_city(tmp_path / "newer").replace(path)
    async with asyncio.timeout(10):
        while geoip.network(OSLO_IP).city is None:  # noqa: ASYNC110 (it tells nobody)
            await asyncio.sleep(0.01)

    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    assert geoip.network(OSLO_IP).city == "Oslo"


# ------------------------------------------------------------------------------------- what it says


def test_what_is_there_is_said_of_each_file(tmp_path: Path) -> None:
    geoip = GeoIp(maxmind_city(tmp_path / "city"), tmp_path / "asn")

    assert geoip.states() == {
        "geoip_city": "GeoLite2-City, built 2026-09-21",
        "geoip_asn": "no such file",
        "geoip_anonymous": "not configured",
    }


def test_no_path_is_said_to_whom_it_may_not_concern(tmp_path: Path) -> None:
    (tmp_path / "city").write_bytes(b"x")

    told = " ".join(GeoIp(tmp_path / "city", tmp_path / "asn").states().values())

    assert str(tmp_path) not in told


def test_no_copy_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setenv("TMPDIR", str(copies))
    monkeypatch.setattr("tempfile.tempdir", None)

    geoip = GeoIp(maxmind_city(tmp_path / "city"))

    assert geoip.network(RENTED_IP).country == RENTED.country
    assert list(copies.iterdir()) == []


def test_without_room_for_a_copy_no_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))

    geoip = GeoIp(maxmind_city(tmp_path / "city"))

    assert geoip.states()["geoip_city"] == "No such file or directory"
