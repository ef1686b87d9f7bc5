"""The refresh path: ``POST /v1/refresh`` and ``POST /oauth/token``.

A forged token is turned away on its MAC, before the rate limiter and before any query.
"""

from collections.abc import Callable

import msgspec

from api.answers import Answer, oauth_token_answer, token_answer
from api.asgi import Endpoint, Request
from api.oauth import OAuthErrorCode, oauth_error, read_form
from api.ports import Services
from api.problems import ProblemError, ProblemKind, rate_limited, step_up_required
from api.requests import REFRESH_COOKIE, ClientReader, Headers, cookie, refuse_cross_site
from domain.client import ClientContext, network_of
from domain.events.envelope import USER, Cause
from domain.events.families import RefreshRetried, TokenDelivery
from domain.family import Session
from domain.family_decisions import Refresh
from domain.ports import Executed
from domain.rate_limiting import LimitName
from domain.refresh_token import (
    SALT_BYTES,
    RefreshToken,
    TokenKeys,
    encode_bytes,
    mint,
    parse,
    successor_of,
)
from domain.refusals import Refusal

AnswerMaker = Callable[[Executed, Session, str], Answer]
"""Makes the answer from what was decided, the session, and its current refresh token."""

Exchanged = Answer | Refusal
"""What a genuine token comes to."""


class RefreshTokenBody(msgspec.Struct):
    """``{"refresh_token": "str_…"}``."""

    refresh_token: str


_body_decoder = msgspec.json.Decoder(RefreshTokenBody)


class PresentedTokens:
    """Finds the refresh token in a request: in the cookie, or in the JSON body."""

    def __init__(self, services: Services) -> None:
        """Accept the cookie from pages of these origins only."""
        self._own_origins = services.allowed_origins | {services.issuer}

    def find(self, headers: Headers, body: bytes) -> tuple[str, TokenDelivery] | None:
        """The token and where it was, or None where there is none.

        Raises:
            ProblemError: There are two, the body is not what it should be, or the request came
                from another site.
        """
        return self.choose(headers, _token_in_body(headers, body))

    def choose(self, headers: Headers, in_body: str | None) -> tuple[str, TokenDelivery] | None:
        """The same, where the body was read before and this is the token in it.

        Raises:
            ProblemError: There are two, or the request came from another site.
        """
        in_cookie = cookie(headers, REFRESH_COOKIE)
        if in_cookie is None or not in_cookie:
            return None if in_body is None else (in_body, TokenDelivery.BODY)
        refuse_cross_site(headers, self._own_origins)
        if in_body is not None:
            raise ProblemError(
                ProblemKind.AMBIGUOUS_TOKEN, "send the cookie or a refresh_token, not both"
            )
        return in_cookie, TokenDelivery.COOKIE


def _token_in_body(headers: Headers, body: bytes) -> str | None:
    if not body:
        return None
    content_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if content_type != b"application/json":
        raise ProblemError(ProblemKind.UNSUPPORTED_TYPE, "send application/json")
    try:
        return _body_decoder.decode(body).refresh_token
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        if body.strip() == b"{}":
            return None
        raise ProblemError(
            ProblemKind.MALFORMED, 'the body is not {"refresh_token": "…"}'
        ) from error


class RefreshPath:
    """Both endpoints over one exchange."""

    def __init__(self, services: Services, clients: ClientReader) -> None:
        """Answer with these services."""
        self._services = services
        self._clients = clients
        self._tokens = PresentedTokens(services)

    def endpoints(self) -> dict[str, Endpoint]:
        """The endpoints by path."""
        return {"/v1/refresh": self.refresh, "/oauth/token": self.token}

    async def refresh(self, request: Request) -> Answer:
        """``POST /v1/refresh``: answers in the way the token came.

        Raises:
            ProblemError: The request or its token is not acceptable.
        """
        if request.method != "POST":
            raise ProblemError(ProblemKind.METHOD_NOT_ALLOWED, headers={"Allow": "POST"})
        found = self._tokens.find(request.headers, await request.body())
        if found is None:
            raise ProblemError(ProblemKind.INVALID_GRANT, "no refresh token was sent")
        text, delivery = found

        def make_answer(executed: Executed, session: Session, token: str) -> Answer:
            return token_answer(self._services, executed, session, token, delivery)

        exchanged = await self._exchange(request, text, None, make_answer)
        return tokens_or_problem(exchanged)

    async def token(self, request: Request) -> Answer:
        """``POST /oauth/token`` with ``grant_type=refresh_token`` (RFC 6749 §6).

        Raises:
            ProblemError: For what RFC 6749 has no error code for: method, size, rate limit.
        """
        if request.method != "POST":
            raise ProblemError(ProblemKind.METHOD_NOT_ALLOWED, headers={"Allow": "POST"})
        form = read_form(request.headers, await request.body())
        if isinstance(form, Answer):
            return form
        if b"authorization" in request.headers:
            return oauth_error(
                OAuthErrorCode.INVALID_CLIENT, "public clients only: send client_id, no secret"
            )
        if form.get("grant_type") != "refresh_token":
            code = OAuthErrorCode.UNSUPPORTED_GRANT_TYPE if "grant_type" in form else None
            return oauth_error(
                code or OAuthErrorCode.INVALID_REQUEST, "grant_type must be refresh_token"
            )
        if not form.get("refresh_token"):
            return oauth_error(OAuthErrorCode.INVALID_REQUEST, "refresh_token is missing")
        if form.get("scope"):
            return oauth_error(OAuthErrorCode.INVALID_SCOPE, "sessions carry no scopes")

        def make_answer(executed: Executed, session: Session, token: str) -> Answer:
            return oauth_token_answer(self._services, executed, session, token)

        client_id = form.get("client_id")
        exchanged = await self._exchange(request, form["refresh_token"], client_id, make_answer)
        if isinstance(exchanged, Answer):
            return exchanged
        if exchanged is Refusal.STEP_UP_REQUIRED:
            return oauth_error(
                OAuthErrorCode.INSUFFICIENT_USER_AUTHENTICATION,
                "the user has to prove themself again; then the same token is good",
            )
        return oauth_error(OAuthErrorCode.INVALID_GRANT)

    async def _exchange(
        self, request: Request, text: str, client_id: str | None, make_answer: AnswerMaker
    ) -> Exchanged | None:
        """Exchange a presented token; None where it is forged.

        Raises:
            ProblemError: The session or its network refreshes too often.
            StoreUnavailableError: As ``FamilyCommands.execute``.
        """
        services = self._services
        keys = services.token_keys()
        presented = parse(text, keys)
        if presented is None:
            services.telemetry.refresh("forged")
            return None
        client = self._clients.context(request.scope, request.headers)
        await refuse_if_too_often(services, presented, client.ip)
        outcome, exchanged = await services.families.execute(
            presented.family_id,
            refresh_command(services, presented, client, keys, client_id),
            Cause(USER, request.correlation_id),
            answering(presented, keys, make_answer),
        )
        services.telemetry.refresh(outcome)
        return exchanged


def tokens_or_problem(exchanged: Exchanged | None) -> Answer:
    """The answer where there is one.

    Raises:
        ProblemError: The token is refused. It does not say why, unless the same token will be good
            once the user has proved themself again.
    """
    if isinstance(exchanged, Answer):
        return exchanged
    if exchanged is Refusal.STEP_UP_REQUIRED:
        raise step_up_required()
    raise ProblemError(ProblemKind.INVALID_GRANT)


async def refuse_if_too_often(services: Services, presented: RefreshToken, ip: str | None) -> None:
    """Count a refresh against the limits of its session and its network.

    Raises:
        ProblemError: 429 with the time to wait.
    """
    limits = services.limits
    wait = await limits.hit(LimitName.REFRESH_PER_SESSION, presented.session_id)
    if wait is None and ip is not None:
        wait = await limits.hit(LimitName.REFRESH_PER_NETWORK, network_of(ip))
    if wait is not None:
        services.telemetry.rate_limited("refresh")
        raise rate_limited(wait)


def refresh_command(
    services: Services,
    presented: RefreshToken,
    client: ClientContext,
    keys: TokenKeys,
    client_id: str | None = None,
) -> Refresh:
    """The command that exchanges a token whose MAC held, with a fresh salt."""
    return Refresh(
        presented=presented,
        client=client,
        salt=encode_bytes(services.random_bytes(SALT_BYTES)),
        keys=keys,
        policy=services.policy,
        client_id=client_id,
    )


def answering(
    presented: RefreshToken, keys: TokenKeys, make_answer: AnswerMaker
) -> Callable[[Executed], tuple[str, Exchanged]]:
    """Makes of an executed exchange its outcome, for the metrics, and what it comes to."""

    def finish(executed: Executed) -> tuple[str, Exchanged]:
        refusal = executed.decision.refusal
        family = executed.family
        session = None if family is None else family.session(presented.session_id)
        if refusal is not None or session is None:
            refusal = refusal or Refusal.UNKNOWN_SESSION
            return refusal.value, refusal
        token = _current_token(presented, session, keys)
        retried = isinstance(executed.decision.events[-1].event, RefreshRetried)
        return "retried" if retried else "rotated", make_answer(executed, session, token)

    return finish


def _current_token(presented: RefreshToken, session: Session, keys: TokenKeys) -> str:
    """The session's current token, derived again from its predecessor."""
    if session.salt is None:
        msg = "a session that rotated has a salt"
        raise RuntimeError(msg)
    return mint(
        successor_of(presented, salt=session.salt, key_id=session.token_key, keys=keys), keys
    )
