"""A request line as the issue words it: every member that may be there, and no other."""

import msgspec


class Geo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    country: str
    city: str
    lat: float
    lon: float
    asn: int
    as_org: str
    anonymous: bool


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    at: str
    do: str
    label: str
    user: str = ""
    family: str = ""
    generation: int = 0
    ip: str = ""
    user_agent: str = ""
    hints: dict[str, str] = {}
    device_id: str | None = None
    geo: Geo | None = None
    verdict: str = ""


def read(line: bytes) -> Request:
    return msgspec.json.decode(line, type=Request)
