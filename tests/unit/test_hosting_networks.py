"""Which networks are known for machines for rent, and which for satellites."""

import pytest

from infra.hosting_networks import HOSTING_ASNS, SATELLITE_ASNS, is_hosting, is_satellite


@pytest.mark.parametrize("asn", [16509, 15169, 8075, 16276, 24940, 14061, 63949, 20473, 9009])
def test_large_providers_are_known_by_number(asn: int) -> None:
    assert is_hosting(asn, None)


@pytest.mark.parametrize(
    "organisation",
    [
        "Example Cloud Inc",
        "EXAMPLECLOUD-AS",
        "Cheap Hosting Ltd",
        "Webhosting GmbH",
        "Example VPN",
        "Fast VPS LLC",
        "Nordic Data Center AS",
        "Datacentre Ltd",
    ],
)
def test_a_name_that_says_so_is_enough(organisation: str) -> None:
    assert is_hosting(64500, organisation)


@pytest.mark.parametrize(
    "organisation", ["Telenor Norge AS", "St. Cloud Telephone", "City of Saint Cloud", "VPNova", ""]
)
def test_networks_of_homes_are_not_hosting(organisation: str) -> None:
    assert not is_hosting(64500, organisation)


def test_nothing_known_is_neither() -> None:
    assert not is_hosting(None, None)
    assert not is_satellite(None, None)


def test_satellite_carriers_are_known_by_number_or_name() -> None:
    assert is_satellite(14593, None)
    assert is_satellite(None, "Example Satellite Communications")
    assert not is_satellite(64500, "Nordic Broadband")


def test_no_network_is_on_both_lists() -> None:
    assert not HOSTING_ASNS & SATELLITE_ASNS
