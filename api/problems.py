"""RFC 9457 problems: the one table from refusals to answers."""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

import msgspec

from domain.refusals import Refusal

PROBLEM_JSON = "application/problem+json"


class _Kind(NamedTuple):
    status: int
    slug: str
    title: str


class ProblemKind(_Kind, Enum):
    """Every kind of problem that the service answers with.

    ``type`` in the answer is ``/problems/<slug>``: a reference that resolves, at the service
    itself, to a page that says what it means.
    """

    INVALID_GRANT = (401, "invalid-grant", "The refresh token is not valid; sign in again")
    INVALID_CREDENTIALS = (401, "invalid-credentials", "User name or password is wrong")
    STEP_UP_REQUIRED = (401, "step-up-required", "The user has to prove themself again first")
    INVALID_TOKEN = (401, "invalid-token", "The access token is missing or not valid")
    INVALID_SERVICE_KEY = (401, "invalid-service-key", "The service key is missing or not valid")
    FORBIDDEN = (403, "forbidden", "This caller may not do that")
    CROSS_SITE = (403, "cross-site-request", "A request with the refresh cookie from another site")
    NOT_FOUND = (404, "not-found", "There is no such thing here")
    METHOD_NOT_ALLOWED = (405, "method-not-allowed", "This address does not take that method")
    CONFLICT = (409, "conflict", "The state does not allow that")
    TOO_LARGE = (413, "content-too-large", "The request is larger than anything we accept")
    MALFORMED = (400, "malformed-request", "The request cannot be read")
    AMBIGUOUS_TOKEN = (400, "ambiguous-token", "More than one refresh token was sent")
    UNSUPPORTED_TYPE = (415, "unsupported-media-type", "The content is of a type we do not read")
    INVALID_INPUT = (422, "invalid-input", "A value is not acceptable")
    RATE_LIMITED = (429, "rate-limited", "Too many requests; wait and try again")
    INTERNAL = (500, "internal-error", "Something went wrong on our side")
    ALTERED_HISTORY = (500, "altered-history", "What is stored of the past was tampered with")
    UNAVAILABLE = (503, "unavailable", "The service cannot answer just now; try again")

    @property
    def uri(self) -> str:
        """The ``type`` member."""
        return f"/problems/{self.slug}"


class ProblemDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of a problem answer."""

    type: str
    title: str
    status: int
    detail: str | None = None
    errors: list[dict[str, str]] | None = None


class ProblemError(Exception):
    """Raised by a route to answer with a problem.

    Attributes:
        kind: Which one.
        detail: What was wrong with this request; nothing internal, no secret.
        headers: Further headers of the answer.
        errors: For invalid input: where, and what is wrong there.
    """

    def __init__(
        self,
        kind: ProblemKind,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        errors: list[dict[str, str]] | None = None,
    ) -> None:
        """See the attributes."""
        super().__init__(kind.title)
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = errors

    def body(self) -> bytes:
        """The encoded document."""
        kind = self.kind
        return msgspec.json.encode(
            ProblemDocument(kind.uri, kind.title, kind.status, self.detail, self.errors)
        )


_REFUSALS: dict[Refusal, ProblemKind] = {
    Refusal.UNKNOWN_SESSION: ProblemKind.NOT_FOUND,
    Refusal.SESSION_ENDED: ProblemKind.CONFLICT,
    Refusal.SESSION_EXPIRED: ProblemKind.CONFLICT,
    Refusal.TOKEN_REUSED: ProblemKind.INVALID_GRANT,
    Refusal.TOKEN_UNRECOGNISED: ProblemKind.INVALID_GRANT,
    Refusal.WRONG_CLIENT: ProblemKind.INVALID_GRANT,
    Refusal.STEP_UP_REQUIRED: ProblemKind.STEP_UP_REQUIRED,
    Refusal.USER_DISABLED: ProblemKind.INVALID_CREDENTIALS,
    Refusal.CREDENTIALS_CHANGED: ProblemKind.INVALID_CREDENTIALS,
    Refusal.UNKNOWN_USER: ProblemKind.NOT_FOUND,
    Refusal.DUPLICATE_USER: ProblemKind.CONFLICT,
    Refusal.NOTHING_TO_DO: ProblemKind.CONFLICT,
    Refusal.UNKNOWN_ALERT: ProblemKind.NOT_FOUND,
    Refusal.ALERT_RESOLVED: ProblemKind.CONFLICT,
    Refusal.SUBJECT_ERASED: ProblemKind.CONFLICT,
    Refusal.REASON_NAMES_USER: ProblemKind.INVALID_INPUT,
    Refusal.UNKNOWN_RULE: ProblemKind.NOT_FOUND,
    Refusal.INVALID_SETTING: ProblemKind.INVALID_INPUT,
    Refusal.UNKNOWN_ENTRY: ProblemKind.NOT_FOUND,
    Refusal.ALLOW_LIST_FULL: ProblemKind.CONFLICT,
}


def problem_of(refusal: Refusal) -> ProblemError:
    """The answer to a refused command (refused *refreshes* are all one ``invalid-grant``)."""
    return ProblemError(_REFUSALS[refusal])


def step_up_required() -> ProblemError:
    """401 with the challenge of RFC 9470 §3: no proof of before is recent enough."""
    return ProblemError(
        ProblemKind.STEP_UP_REQUIRED,
        headers={
            "WWW-Authenticate": 'Bearer realm="sessiontrail", '
            'error="insufficient_user_authentication", max_age="0"'
        },
    )


def rate_limited(retry_after_s: int) -> ProblemError:
    """429 with ``Retry-After``."""
    return ProblemError(ProblemKind.RATE_LIMITED, headers={"Retry-After": str(retry_after_s)})


def unavailable(detail: str | None = None) -> ProblemError:
    """503 with ``Retry-After``."""
    return ProblemError(ProblemKind.UNAVAILABLE, detail, headers={"Retry-After": "1"})
