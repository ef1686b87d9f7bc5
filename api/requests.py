"""What a request says of its sender: address behind proxies, client context, cookies, correlation.

Read straight from the ASGI scope, because the refresh path pays for every object in between.
"""

import re
from base64 import urlsafe_b64decode
from collections.abc import Iterable, MutableMapping, Sequence
from functools import lru_cache
from hmac import compare_digest, digest
from ipaddress import ip_address, ip_network
from typing import Any

from api.problems import ProblemError, ProblemKind
from domain.client import USER_AGENT_MAX_CHARS, ClientContext, canonical_ip
from domain.ids import UserId, parse_uuid, uuid_text
from domain.refresh_token import encode_bytes, hash_secret

REFRESH_COOKIE = "__Host-sessiontrail"
DEVICE_COOKIE = "__Host-sessiontrail-device"
DEVICE_HEADER = b"sessiontrail-device"
"""How a native app, which keeps no cookies, sends the device token that it was given."""

Scope = MutableMapping[str, Any]
"""An ASGI scope. Any: the ASGI specification gives its values many types."""
Headers = dict[bytes, bytes]

_HINT_MAX_CHARS = 256
_HINTS = tuple(
    name.encode("ascii")
    for name in (
        "sec-ch-ua",
        "sec-ch-ua-mobile",
        "sec-ch-ua-platform",
        "sec-ch-ua-platform-version",
        "sec-ch-ua-model",
    )
)
ACCEPT_CH = (
    "Sec-CH-UA, Sec-CH-UA-Mobile, Sec-CH-UA-Platform, Sec-CH-UA-Platform-Version, Sec-CH-UA-Model"
)
_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)
"""W3C Trace Context §3.2: not version ff, no ids of zeros; later versions may say more."""
_DEVICE_KEY_CHARS = 22
_DEVICE_NONCE_BYTES = 16
_DEVICE_TOKEN_CHARS = 43


def headers_of(scope: Scope) -> Headers:
    """The request's headers by lower-case name; repeated ones joined as RFC 9110 §5.3 allows."""
    headers: Headers = {}
    for name, value in scope["headers"]:
        if name in headers:
            separator = b"; " if name == b"cookie" else b", "
            headers[name] = headers[name] + separator + value
        else:
            headers[name] = value
    return headers


def cookie(headers: Headers, name: str) -> str | None:
    """A cookie's value.

    Raises:
        ProblemError: The name occurs twice: which one is meant is not for us to guess.
    """
    found: str | None = None
    raw = headers.get(b"cookie")
    if raw is None:
        return None
    for part in raw.decode("latin-1").split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            if found is not None:
                raise ProblemError(ProblemKind.AMBIGUOUS_TOKEN, f"two cookies named {name}")
            found = value
    return found


class ClientReader:
    """Tells who sent a request. Only named proxies are believed about it."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        """Believe ``X-Forwarded-For`` from peers in these networks (CIDR)."""
        networks = [ip_network(text, strict=False) for text in trusted_proxies]

        @lru_cache(maxsize=4096)
        def is_trusted(ip: str) -> bool:
            address = ip_address(ip)
            return any(address in network for network in networks)

        self._is_trusted = is_trusted if networks else None

    def address(self, scope: Scope, headers: Headers) -> str | None:
        """The client's canonical address: the last one that no trusted proxy vouches for."""
        peer = scope.get("client")
        ip = _canonical(peer[0]) if peer else None
        forwarded = headers.get(b"x-forwarded-for")
        if self._is_trusted is None or ip is None or forwarded is None:
            return ip
        for hop in reversed(forwarded.decode("latin-1").split(",")):
            if not self._is_trusted(ip):
                return ip
            previous = canonical_ip(hop)
            if previous is None:
                return ip
            ip = previous
        return ip

    def context(self, scope: Scope, headers: Headers) -> ClientContext:
        """Everything that the request says of its client, cut to what is worth keeping."""
        device = device_token(headers)
        return ClientContext(
            ip=self.address(scope, headers),
            user_agent=_text(headers.get(b"user-agent"), USER_AGENT_MAX_CHARS),
            hints={
                name.decode("ascii"): text
                for name in _HINTS
                if (text := _text(headers.get(name), _HINT_MAX_CHARS)) is not None
            },
            device_key=None if device is None else device_key(device),
        )


@lru_cache(maxsize=4096)
def _canonical(peer: str) -> str | None:
    return canonical_ip(peer)


@lru_cache(maxsize=4096)
def _clean(raw: bytes, max_chars: int) -> str:
    text = raw[: max_chars * 4].decode("utf-8", "replace").replace("\x00", "\ufffd")
    return text[:max_chars]


def _text(raw: bytes | None, max_chars: int) -> str | None:
    return None if raw is None else _clean(raw[: max_chars * 4], max_chars)


# ---------------------------------------------------------------------------- devices


def device_token(headers: Headers) -> str | None:
    """The device token that a client sent, in its cookie or its header, if it looks like one.

    A client that sends two device cookies is treated as one that sends none.
    """
    try:
        value = cookie(headers, DEVICE_COOKIE)
    except ProblemError:
        return None
    if value is None:
        raw = headers.get(DEVICE_HEADER)
        value = None if raw is None else raw.decode("latin-1")
    return value if value is not None and len(value) == _DEVICE_TOKEN_CHARS else None


def device_key(token: str) -> str:
    """What is kept of a device token: enough of its SHA-256 to tell devices apart."""
    return hash_secret(token.encode("utf-8"))[:_DEVICE_KEY_CHARS]


def new_device_token(user_id: UserId, nonce: bytes, key: bytes) -> str:
    """A device token that only this service can make, and that fits only this user.

    It lets an owner sign in from a known device while strangers exhaust the account's limit
    (OWASP: device cookies). 16 random bytes and 16 of an HMAC-SHA-256.
    """
    return encode_bytes(nonce + _device_mac(user_id, nonce, key))


def is_known_device(token: str | None, user_id: UserId, key: bytes) -> bool:
    """Whether the token was given out at a sign-in of that user."""
    if token is None:
        return False
    try:
        raw = urlsafe_b64decode(token + "=")
    except ValueError:
        return False
    if encode_bytes(raw) != token:  # base64 can spell it otherwise: each would have its own limit
        return False
    nonce, mac = raw[:_DEVICE_NONCE_BYTES], raw[_DEVICE_NONCE_BYTES:]
    return compare_digest(_device_mac(user_id, nonce, key), mac)


def _device_mac(user_id: UserId, nonce: bytes, key: bytes) -> bytes:
    return digest(key, b"device" + nonce + user_id.encode("ascii"), "sha256")[:16]


# ---------------------------------------------------------------------------- correlation


def correlation_of(headers: Headers, fresh: str) -> str:
    """The id that ties a request to its events and log lines.

    The caller's ``X-Request-Id`` where it is a UUID, else the trace id of a W3C ``traceparent``,
    else ``fresh``.
    """
    given = headers.get(b"x-request-id")
    if given is not None:
        parsed = parse_uuid(given.decode("latin-1"))
        if parsed is not None:
            return parsed
    trace = _TRACEPARENT.fullmatch(headers.get(b"traceparent", b""))
    return fresh if trace is None else uuid_text(bytes.fromhex(trace[1].decode("ascii")))


# ---------------------------------------------------------------------------- same-origin


def refuse_cross_site(headers: Headers, own_origins: Iterable[str]) -> None:
    """Refuse a request that another site's page made with our cookie (CSRF).

    Browsers let no page set either header. ``Sec-Fetch-Site`` comes first, because it alone knows
    our own page under another name, such as ``localhost`` for ``127.0.0.1``.

    Raises:
        ProblemError: ``Origin`` is not one of ours, or ``Sec-Fetch-Site`` says another site.
    """
    site = headers.get(b"sec-fetch-site")
    if site == b"same-origin":
        return
    origin = headers.get(b"origin")
    if origin is not None:
        if origin.decode("latin-1") not in own_origins:
            raise ProblemError(ProblemKind.CROSS_SITE, "Origin is not allowed")
        return
    if site is not None and site != b"none":
        raise ProblemError(ProblemKind.CROSS_SITE, "Sec-Fetch-Site is not same-origin")
