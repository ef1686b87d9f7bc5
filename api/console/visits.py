"""Who looks at a page: by the refresh cookie that their browser holds (docs/decisions/024).

A page cannot send an access token. It is opened by the refresh cookie itself: as long as that is
the session's current token, younger than an access token may be, and presented where it was given
out, one read says so; else it is exchanged, by the very rules of ``/v1/refresh``, and the answer
sets the next.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest
from typing import Annotated, cast

from fastapi import Depends, Request

from api.answers import Answer, RawHeaders, token_answer
from api.fast import client_reader
from api.ports import Services
from api.problems import ProblemError, ProblemKind
from api.refresh import answering, refresh_command, refuse_if_too_often
from api.requests import REFRESH_COOKIE, Headers, cookie
from api.security import (
    READERS,
    Caller,
    CorrelationIn,
    HeadersIn,
    ServicesIn,
    caller_of,
    live_caller,
)
from domain.client import ClientContext, network_of, same_client
from domain.events.envelope import USER, Cause
from domain.events.families import TokenDelivery
from domain.events.users import Role
from domain.family import Family, Session
from domain.ids import CorrelationId
from domain.ports import Executed
from domain.refresh_token import RefreshToken, hash_secret, parse
from domain.refusals import Refusal

_FROM_OURS = {b"same-origin", b"none"}
_COOKIES = "sessiontrail.console_cookies"
_VISIT = "sessiontrail.console_visit"


class NotSignedInError(Exception):
    """Nobody is signed in: the page asks them to, and brings them back."""


class HeldError(Exception):
    """The visitor's session is held until they prove again that it is them (RFC 9470)."""


class CameFromElsewhereError(Exception):
    """Another site's page led here: the browser holds our cookie back, or we do not go by it."""


@dataclass(frozen=True, slots=True)
class Visit:
    """Somebody signed in, who looks at a page.

    Attributes:
        caller: Who, with the session that is live.
        may_read: Whether they may read what staff reads.
        may_act: Whether they may act on others' sessions and alerts.
        may_configure: Whether they may change the detection policy.
        may_audit: Whether they may look into the past and the tree, and take events out.
        name: What they are called.
    """

    caller: Caller

    @property
    def may_read(self) -> bool:
        """See the attributes."""
        return self.has(*READERS)

    @property
    def may_act(self) -> bool:
        """See the attributes."""
        return self.has(Role.ANALYST, Role.ADMIN)

    @property
    def may_configure(self) -> bool:
        """See the attributes."""
        return self.has(Role.ADMIN)

    @property
    def may_audit(self) -> bool:
        """See the attributes."""
        return self.has(Role.AUDITOR)

    @property
    def name(self) -> str:
        """What the visitor is called."""
        user = self.caller.user
        name = user.username or user.external_subject
        return name if isinstance(name, str) else user.user_id

    def has(self, *roles: Role) -> bool:
        """Whether they have one of these roles, now."""
        return bool(set(roles) & set(self.caller.user.roles))


def began_here(request: Request, headers: Headers) -> bool:
    """Whether the browser says that a page of ours led here, or somebody's hand."""
    return request.method != "GET" or headers.get(b"sec-fetch-site", b"none") in _FROM_OURS


async def visit_in(
    request: Request, services: ServicesIn, headers: HeadersIn, correlation_id: CorrelationIn
) -> Visit:
    """Who looks at this page.

    Raises:
        NotSignedInError: Nobody is signed in, or their session has ended.
        HeldError: They have to prove first that it is them.
        CameFromElsewhereError: The request did not begin at one of our pages, nor by hand.
        ProblemError: The browser sent two refresh cookies, or refreshes too often.
    """
    if not began_here(request, headers):
        raise CameFromElsewhereError
    presented = token_in(services, headers)
    if presented is None:
        raise NotSignedInError
    found = await services.sessions.family_of_session(presented.session_id)
    client = client_reader(request).context(request.scope, headers)
    try:
        if found is not None and _is_good_as_it_is(services, presented, client, found[0], found[2]):
            visit = Visit(caller_of(found, presented.session_id, correlation_id))
        else:
            await _exchange(request, services, presented, client, correlation_id)
            visit = Visit(await live_caller(services, presented.session_id, correlation_id))
    except ProblemError as error:
        if error.kind is ProblemKind.STEP_UP_REQUIRED:
            raise HeldError from error
        if error.kind is ProblemKind.INVALID_TOKEN:
            raise NotSignedInError from error
        raise
    request.scope[_VISIT] = visit
    return visit


def visit_on(request: Request) -> Visit | None:
    """Who looks at this page, as far as that was asked: also where it ends in a fault."""
    return cast("Visit | None", request.scope.get(_VISIT))


def token_in(services: Services, headers: Headers) -> RefreshToken | None:
    """The refresh token in the browser's cookie, if it is one of ours.

    Raises:
        ProblemError: There are two cookies of that name.
    """
    text = cookie(headers, REFRESH_COOKIE)
    return parse(text, services.token_keys()) if text else None


def _is_good_as_it_is(
    services: Services, presented: RefreshToken, client: ClientContext, family: Family, at: datetime
) -> bool:
    """Whether the token need not be exchanged: it is the current one, young, and at home.

    From another client, or another network, it is exchanged at once, so that the log says so and
    the detector sees it.
    """
    session = family.session(presented.session_id)
    return (
        session is not None
        and session.generation == presented.generation
        and compare_digest(session.secret_hash, hash_secret(presented.secret))
        and at - session.rotated_at < services.policy.access_lifetime
        and isinstance(session.client, ClientContext)
        and same_client(session.client, client)
        and _network(session.client) == _network(client)
    )


def _network(client: ClientContext) -> str | None:
    return None if client.ip is None else network_of(client.ip)


async def _exchange(
    request: Request,
    services: Services,
    presented: RefreshToken,
    client: ClientContext,
    correlation_id: CorrelationId,
) -> None:
    await refuse_if_too_often(services, presented, client.ip)
    keys = services.token_keys()

    def make_answer(executed: Executed, session: Session, token: str) -> Answer:
        return token_answer(services, executed, session, token, TokenDelivery.COOKIE)

    outcome, exchanged = await services.families.execute(
        presented.family_id,
        refresh_command(services, presented, client, keys),
        Cause(USER, correlation_id),
        answering(presented, keys, make_answer),
    )
    services.telemetry.refresh(outcome)
    if exchanged is Refusal.STEP_UP_REQUIRED:
        raise HeldError
    if not isinstance(exchanged, Answer):
        raise NotSignedInError
    request.scope[_COOKIES] = [header for header in exchanged.headers if header[0] == b"set-cookie"]


def cookies_for(request: Request) -> RawHeaders:
    """The ``Set-Cookie`` headers that the answer to this request must carry, whatever it says."""
    return cast("RawHeaders", request.scope.get(_COOKIES, []))


VisitIn = Annotated[Visit, Depends(visit_in)]


def visit_of(*roles: Role) -> Callable[[Visit], Awaitable[Visit]]:
    """A dependency: the visitor has one of these roles, now.

    Raises:
        ProblemError: They do not.
    """

    async def with_role(visit: VisitIn) -> Visit:
        if not visit.has(*roles):
            needed = " or ".join(roles)
            raise ProblemError(ProblemKind.FORBIDDEN, f"this needs the role {needed}")
        return visit

    return with_role


ReaderVisit = Annotated[Visit, Depends(visit_of(*READERS))]
ActorVisit = Annotated[Visit, Depends(visit_of(Role.ANALYST, Role.ADMIN))]
AdminVisit = Annotated[Visit, Depends(visit_of(Role.ADMIN))]
AuditVisit = Annotated[Visit, Depends(visit_of(Role.AUDITOR))]
