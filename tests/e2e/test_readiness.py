"""What ``/readyz`` says of the parts that the service does without."""

from collections.abc import Callable
from pathlib import Path

import httpx

from tests.e2e.database import wait_for
from tests.e2e.service import RunningService
from tests.geo_files import dbip_city


def optional_parts(running: RunningService, http: httpx.Client) -> dict[str, str]:
    answer = http.get(running.url + "/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)
    parts: dict[str, str] = answer.json()["optional"]
    return parts


def test_a_service_without_geoip_files_is_ready_and_says_so(
    shared_service: RunningService, http: httpx.Client
) -> None:
    parts = optional_parts(shared_service, http)

    assert {name: state for name, state in parts.items() if name.startswith("geoip")} == {
        "geoip_city": "not configured",
        "geoip_asn": "not configured",
        "geoip_anonymous": "not configured",
    }


def test_a_geoip_file_that_comes_while_the_service_runs_is_used(
    private_service: Callable[..., RunningService], tmp_path: Path, http: httpx.Client
) -> None:
    city, asn = tmp_path / "city.mmdb", tmp_path / "asn.mmdb"
    asn.write_bytes(b"half a file")
    running = private_service(SESSIONTRAIL_GEOIP_CITY=str(city), SESSIONTRAIL_GEOIP_ASN=str(asn))
    before = optional_parts(running, http)

    dbip_city(tmp_path / "newer").replace(city)

    wait_for(lambda: optional_parts(running, http) != before)
    assert before["geoip_city"] == "no such file"
    assert before["geoip_asn"] == "not a readable MaxMind DB file"
    assert optional_parts(running, http)["geoip_city"] == "DBIP-City-Lite, built 2026-09-21"
