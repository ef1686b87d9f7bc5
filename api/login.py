"""Signing in: with a password, or through a trusted backend."""

from fastapi import APIRouter, Request, Response

from api.answers import Answer, token_answer
from api.attempts import PasswordAttempt
from api.backend_clients import client_told_by
from api.fast import PROBLEMS, answered_with, client_reader
from api.ports import Services
from api.problems import ProblemError, ProblemKind
from api.requests import (
    ACCEPT_CH,
    device_key,
    device_token,
    new_device_token,
    refuse_cross_site,
)
from api.schemas import LoginBody, OpenSessionBody, Tokens
from api.security import BackendIn, CorrelationIn, HeadersIn, ServicesIn
from domain.client import ClientContext
from domain.events.envelope import USER, Actor, ActorKind, Cause
from domain.events.families import TokenDelivery
from domain.family_decisions import StartSession
from domain.ids import FamilyId, SessionId, UserId
from domain.ports import Executed
from domain.refresh_token import SECRET_BYTES, RefreshToken, mint
from domain.refusals import Refusal
from domain.texts import (
    InvalidTextError,
    clean_device_name,
    normalise_password,
    normalise_subject,
    normalise_username,
)

router = APIRouter(prefix="/v1", tags=["sign-in"])

_DEVICE_NONCE_BYTES = 16


@router.post("/login", response_model=Tokens, responses=PROBLEMS(401, 403, 422, 429, 503))
async def login(
    body: LoginBody,
    request: Request,
    services: ServicesIn,
    headers: HeadersIn,
    correlation_id: CorrelationIn,
) -> Response:
    """Sign in with a password: opens a session on this device.

    Unknown users, wrong passwords and disabled users get the same answer in the same time.
    """
    delivery = TokenDelivery(body.token_delivery)
    if delivery is TokenDelivery.COOKIE:
        refuse_cross_site(headers, services.allowed_origins | {services.issuer})
    try:
        username = normalise_username(body.username)
        password = normalise_password(body.password)
        device_name = None if body.device_name is None else clean_device_name(body.device_name)
    except InvalidTextError as error:
        raise ProblemError(ProblemKind.INVALID_INPUT, str(error)) from error

    client = client_reader(request).context(request.scope, headers)
    named = await services.users.find_for_sign_in(username)
    attempt = PasswordAttempt(services, username, named, client, device_token(headers))
    found = await attempt.verify(password)

    fresh_device = None
    if not attempt.from_known_device:
        fresh_device = new_device_token(
            found.user.user_id, services.random_bytes(_DEVICE_NONCE_BYTES), services.device_key
        )
        client = ClientContext(client.ip, client.user_agent, client.hints, device_key(fresh_device))
    opening = Opening(
        services,
        client=client,
        client_id=body.client_id,
        auth_methods=["pwd"],
        delivery=delivery,
        persistent=body.remember_me,
        device_name=device_name,
    )
    command = opening.command(found.user.user_id)
    opened = await services.users.open_session(
        found.user.credential_epoch, opening.family_id, command, Cause(USER, correlation_id)
    )
    if isinstance(opened, Refusal):
        await attempt.failed()
        # Disabled, erased or with another password since the check: told apart by nobody outside.
        raise ProblemError(ProblemKind.INVALID_CREDENTIALS)
    services.telemetry.login("accepted")
    answer = opening.answer(opened, 200, fresh_device)
    return answered_with(answer, {"Accept-CH": ACCEPT_CH})


@router.post(
    "/sessions",
    status_code=201,
    response_model=Tokens,
    responses=PROBLEMS(401, 403, 409, 422, 503),
)
async def open_session(
    body: OpenSessionBody,
    key: BackendIn,
    services: ServicesIn,
    correlation_id: CorrelationIn,
) -> Response:
    """Open a session for a user whom a trusted backend has authenticated itself.

    Needs a service key with the scope `sessions:create`. The backend's `subject` becomes the
    `sub` of the access tokens; it is registered when it is first seen.
    """
    try:
        device_name = None if body.device_name is None else clean_device_name(body.device_name)
        subject = normalise_subject(body.subject)
    except InvalidTextError as error:
        raise ProblemError(ProblemKind.INVALID_INPUT, str(error)) from error
    opening = Opening(
        services,
        client=client_told_by(body.client),
        client_id=body.client_id,
        auth_methods=body.auth_methods,
        delivery=TokenDelivery.BODY,
        persistent=body.remember_me,
        device_name=device_name,
    )
    opened = await services.users.open_external_session(
        subject,
        opening.family_id,
        opening.command(UserId(services.new_id())),
        Cause(Actor(ActorKind.SERVICE, key.key_id), correlation_id),
    )
    if isinstance(opened, Refusal):
        taken = opened is Refusal.DUPLICATE_USER
        detail = "the subject is a user's id here" if taken else "the user is disabled"
        raise ProblemError(ProblemKind.CONFLICT, detail)
    services.telemetry.login("accepted_external")
    return answered_with(opening.answer(opened, 201, None))


class Opening:
    """A session about to be opened, and the token it will be answered with."""

    def __init__(
        self,
        services: Services,
        *,
        client: ClientContext,
        client_id: str,
        auth_methods: list[str],
        delivery: TokenDelivery,
        persistent: bool,
        device_name: str | None,
    ) -> None:
        """Draw the session's ids and its first secret."""
        self.family_id = FamilyId(services.new_id())
        self._services = services
        self._session_id = SessionId(services.new_id())
        self._secret = services.random_bytes(SECRET_BYTES)
        self._keys = services.token_keys()
        self._delivery = delivery
        self._client = client
        self._client_id = client_id
        self._auth_methods = auth_methods
        self._persistent = persistent
        self._device_name = device_name

    def command(self, user_id: UserId) -> StartSession:
        """The command that opens it for a user."""
        return StartSession(
            session_id=self._session_id,
            user_id=user_id,
            client_id=self._client_id,
            auth_methods=self._auth_methods,
            delivery=self._delivery,
            persistent=self._persistent,
            secret=self._secret,
            token_key=self._keys.current_id,
            client=self._client,
            device_name=self._device_name,
            policy=self._services.policy,
        )

    def answer(self, opened: Executed, status: int, fresh_device: str | None) -> Answer:
        """The answer that hands out its tokens."""
        token = RefreshToken(
            self._keys.current_id, self.family_id, self._session_id, 1, self._secret
        )
        session = opened.family.session(self._session_id) if opened.family else None
        if session is None:
            msg = "a session that was just opened exists"
            raise RuntimeError(msg)
        return token_answer(
            self._services,
            opened,
            session,
            mint(token, self._keys),
            self._delivery,
            status=status,
            device_token=fresh_device,
        )
