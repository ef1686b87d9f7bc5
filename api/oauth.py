"""What the OAuth endpoints share: forms in, RFC 6749 errors out."""

from enum import StrEnum
from urllib.parse import parse_qsl

import msgspec

from api.answers import Answer

_FORM = b"application/x-www-form-urlencoded"
_MAX_FIELDS = 32


class OAuthErrorCode(StrEnum):
    """The closed set of RFC 6749 §5.2, and the code of RFC 9470 §3."""

    INVALID_REQUEST = "invalid_request"
    INVALID_CLIENT = "invalid_client"
    INVALID_GRANT = "invalid_grant"
    UNAUTHORIZED_CLIENT = "unauthorized_client"
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"
    INVALID_SCOPE = "invalid_scope"
    INSUFFICIENT_USER_AUTHENTICATION = "insufficient_user_authentication"


class OAuthErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """``{"error": …, "error_description": …}``."""

    error: str
    error_description: str | None = None


def oauth_error(code: OAuthErrorCode, description: str | None = None) -> Answer:
    """An RFC 6749 §5.2 error: 400, or 401 with a challenge when the client is not authenticated."""
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"pragma", b"no-cache"),
    ]
    status = 400
    if code is OAuthErrorCode.INVALID_CLIENT:
        status = 401
        headers.append((b"www-authenticate", b'Basic realm="sessiontrail"'))
    return Answer(status, headers, msgspec.json.encode(OAuthErrorBody(code.value, description)))


def read_form(headers: dict[bytes, bytes], body: bytes) -> dict[str, str] | Answer:
    """The fields of a form body.

    Returns:
        Fields by name (unknown ones included, for the caller to ignore), or the error to answer:
        wrong content type, not a form, or a repeated field (RFC 6749 §3.2).
    """
    content_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if content_type != _FORM:
        return oauth_error(OAuthErrorCode.INVALID_REQUEST, f"send {_FORM.decode()}")
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError:
        return oauth_error(OAuthErrorCode.INVALID_REQUEST, "the body is not a form")
    fields = dict(pairs)
    if len(fields) != len(pairs):
        return oauth_error(OAuthErrorCode.INVALID_REQUEST, "a field is repeated")
    return fields
