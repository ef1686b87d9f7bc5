"""Another device within a family."""

from msgspec.structs import replace

from domain.detection import Response
from tests.unit.detector.builders import (
    HOSTING,
    LAPTOP,
    OSLO,
    OSLO_MOBILE,
    OTHER_PHONE,
    PHONE,
    SCRIPT,
    TOKYO,
    moved,
)
from tests.unit.detector.family_in_use import codes, in_use, responses, rule_named

RULE = rule_named("device-change")
REVOKED = [("device-change", Response.REVOKE_FAMILY)]
STEPPED_UP = [("device-change", Response.STEP_UP)]
ALERTED = [("device-change", Response.ALERT)]
MAC = replace(LAPTOP, platform="macOS")


def test_another_device_in_another_autonomous_system_ends_the_family() -> None:
    family = in_use(RULE)

    found = family.refresh(TOKYO, OTHER_PHONE)

    assert responses(found) == REVOKED
    assert {"other_platform", "new_asn"} <= codes(found)


def test_it_does_so_at_the_first_day_of_a_user_of_whom_nothing_is_known() -> None:
    family = in_use(RULE, days=0)

    assert responses(family.refresh(OSLO_MOBILE, MAC)) == REVOKED


def test_another_device_cookie_is_another_device_though_all_else_is_the_same() -> None:
    family = in_use(RULE, cookie="mine")

    found = family.refresh(TOKYO, cookie="thief's")

    assert responses(found) == REVOKED
    assert "other_device_cookie" in codes(found)


def test_a_cookie_that_matches_settles_that_it_is_the_same_device() -> None:
    family = in_use(RULE, cookie="mine")

    assert family.refresh(TOKYO, MAC) == []


def test_a_script_that_names_no_platform_is_another_device() -> None:
    family = in_use(RULE)

    assert responses(family.refresh(HOSTING, SCRIPT)) == REVOKED


def test_without_geo_data_another_device_in_a_new_network_ends_the_family() -> None:
    nowhere = replace(OSLO, asn=None, country=None, city=None, latitude=None, longitude=None)
    family = in_use(RULE, network=nowhere)

    assert responses(family.refresh(replace(nowhere, prefix="192.0.2.0/24"), MAC)) == REVOKED


def test_without_geo_data_a_new_cookie_alone_does_not_end_the_family() -> None:
    nowhere = replace(OSLO, asn=None, country=None, city=None, latitude=None, longitude=None)
    family = in_use(RULE, network=nowhere, cookie="mine")

    found = family.refresh(replace(nowhere, prefix="192.0.2.0/24"), cookie="cleared")

    assert responses(found) == STEPPED_UP


def test_in_a_network_that_the_user_has_used_it_asks_for_a_proof() -> None:
    family = in_use(RULE)
    family.use(2, OSLO_MOBILE)
    family.use(2, OSLO)

    assert responses(family.refresh(OSLO_MOBILE, MAC)) == STEPPED_UP


def test_in_another_network_of_the_same_carrier_it_alerts() -> None:
    family = in_use(RULE)

    assert responses(family.refresh(moved(OSLO, 7), MAC)) == ALERTED


def test_a_new_telephone_set_up_from_a_backup_at_home_is_silent() -> None:
    family = in_use(RULE, device=PHONE)

    assert family.refresh(OSLO, OTHER_PHONE) == []


def test_a_deleted_device_cookie_at_home_is_silent() -> None:
    family = in_use(RULE, cookie="mine")

    assert family.refresh(cookie="new") == []


def test_updates_of_browser_and_system_change_nothing() -> None:
    family = in_use(RULE)

    assert family.refresh(TOKYO, replace(LAPTOP, browser_version=152, platform_version="11")) == []


def test_what_is_not_told_is_no_difference() -> None:
    family = in_use(RULE, device=replace(PHONE, model="iPhone17,1"))

    assert family.refresh(TOKYO, replace(PHONE, engine=None, model=None)) == []


def test_another_model_is_another_device() -> None:
    pixel = replace(OTHER_PHONE, model="Pixel 9")
    family = in_use(RULE, device=pixel)

    found = family.refresh(TOKYO, replace(pixel, model="SM-S931B"))

    assert codes(found) >= {"other_model", "new_asn"}


def test_asking_for_the_desktop_site_is_no_other_device() -> None:
    family = in_use(RULE, device=OTHER_PHONE)

    desktop_site = replace(OTHER_PHONE, platform="Linux", form="desktop")

    assert family.refresh(OSLO, desktop_site) == []
    assert family.refresh(OSLO, OTHER_PHONE) == []


def test_one_other_device_is_found_once() -> None:
    family = in_use(RULE)
    family.refresh(TOKYO, OTHER_PHONE)

    assert family.refresh(TOKYO, OTHER_PHONE) == []
