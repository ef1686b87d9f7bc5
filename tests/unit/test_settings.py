"""Settings: what is made of the environment."""

from pathlib import Path

import pytest

from infra.settings import load_settings


def test_geoip_files_are_given_by_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONTRAIL_GEOIP_CITY", "/var/lib/geoip/city.mmdb")

    settings = load_settings()

    assert settings.geoip_city == Path("/var/lib/geoip/city.mmdb")
    assert settings.geoip_asn is None


def test_an_empty_path_of_a_geoip_file_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONTRAIL_GEOIP_ASN", "")

    assert load_settings().geoip_asn is None
