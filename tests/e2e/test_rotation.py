"""Rotation and reuse, over HTTP: who gets a successor, who loses the family (design §5)."""

from tests.e2e.clients import Device
from collections.abc import Callable


def test_smoke(device: Callable[..., Device]) -> None:
    one = device()
    assert one.login().status_code == 200
    print(one.session, one.refresh().json())
