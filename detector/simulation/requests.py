"""The request file: JSON Lines in time order, one request a line."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated

import msgspec

from domain.client import USER_AGENT_MAX_CHARS, ClientContext, canonical_ip
from domain.detection import Verdict
from domain.refresh_token import MAX_GENERATION

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(3000, 1, 1, tzinfo=UTC)
_canonical_ip = lru_cache(maxsize=1 << 16)(canonical_ip)
"""A client sends many requests from one address."""
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class Geo(msgspec.Struct, frozen=True):
    """Where an address is, told instead of looked up."""

    country: str | None = None
    city: str | None = None
    lat: Annotated[float, msgspec.Meta(ge=-90, le=90)] | None = None
    lon: Annotated[float, msgspec.Meta(ge=-180, le=180)] | None = None
    asn: Annotated[int, msgspec.Meta(ge=0)] | None = None
    as_org: str | None = None
    anonymous: bool = False
    hosting: bool = False
    radius_km: Annotated[int, msgspec.Meta(ge=0)] | None = None


class _Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="do"):
    """What every request has.

    Attributes:
        at: When; its offset is required.
        ip: The client's address.
        user_agent: The header.
        hints: ``sec-ch-ua*`` headers.
        device_id: The device cookie, or what a native client has in its place.
        geo: Where the address is; looked up where it is missing.
    """

    at: datetime
    ip: str | None = None
    user_agent: str | None = None
    hints: dict[str, str] | None = None
    device_id: str | None = None
    geo: Geo | None = None


class Login(_Request, frozen=True, kw_only=True, tag="login"):
    """A sign-in that succeeds, and opens a family."""

    user: _Text
    family: _Text


class LoginFailed(_Request, frozen=True, kw_only=True, tag="login_failed"):
    """A sign-in with a wrong password, or for a name that nobody has."""

    user: _Text


class Refresh(_Request, frozen=True, kw_only=True, tag="refresh"):
    """A refresh that presents the family's token of some generation."""

    family: _Text
    generation: Annotated[int, msgspec.Meta(ge=1, le=MAX_GENERATION)]


class Logout(_Request, frozen=True, kw_only=True, tag="logout"):
    """A sign-out."""

    family: _Text


class VerdictGiven(_Request, frozen=True, kw_only=True, tag="verdict"):
    """What an analyst says the family's alerts were."""

    family: _Text
    verdict: Verdict


Request = Login | LoginFailed | Refresh | Logout | VerdictGiven
_decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


class BadLineError(ValueError):
    """A line that is not a request; the message says why."""


def read_request(line: bytes | str) -> Request:
    """One line of a request file. Members that are not known, such as ``label``, are not read.

    Raises:
        BadLineError: It is not a request.
    """
    try:
        request: Request = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadLineError(str(error)) from error
    except RecursionError as error:
        msg = "nested too deeply"
        raise BadLineError(msg) from error
    if request.at.tzinfo is None:
        msg = "`at` has no offset: write it like 2026-01-05T08:00:00Z"
        raise BadLineError(msg)
    if not _EARLIEST <= request.at < _LATEST:
        msg = "`at` is not between 1970 and 2999"
        raise BadLineError(msg)
    if request.ip is not None and _canonical_ip(request.ip) is None:
        msg = "`ip` is not an IP address"
        raise BadLineError(msg)
    return request


def instant_of(request: Request) -> datetime:
    """When a request was, in UTC."""
    return request.at if request.at.tzinfo is UTC else request.at.astimezone(UTC)


def client_of(request: Request) -> ClientContext:
    """Who seems to be calling, as the service would have taken it down."""
    agent = request.user_agent
    hints = request.hints
    return ClientContext(
        ip=None if request.ip is None else _canonical_ip(request.ip),
        user_agent=None if agent is None else agent[:USER_AGENT_MAX_CHARS],
        hints={name.lower(): value for name, value in hints.items()} if hints else {},
        device_key=request.device_id,
    )
