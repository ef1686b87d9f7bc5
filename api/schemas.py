"""Request and answer bodies of the JSON API, as pydantic models: the edge's own types."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from domain.texts import (
    MAX_DEVICE_NAME_CODE_POINTS,
    MAX_PASSWORD_CODE_POINTS,
    MAX_USERNAME_CODE_POINTS,
)

Username = Annotated[str, StringConstraints(min_length=1, max_length=MAX_USERNAME_CODE_POINTS)]
Password = Annotated[str, StringConstraints(min_length=1, max_length=MAX_PASSWORD_CODE_POINTS)]
DeviceName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_DEVICE_NAME_CODE_POINTS)]
ClientId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._~-]{1,64}$")]
Delivery = Literal["cookie", "body"]
AuthMethods = Annotated[
    list[Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,16}$")]],
    Field(min_length=1, max_length=8),
]


class _Body(BaseModel):
    """A request body: what it does not know, it refuses."""

    model_config = ConfigDict(extra="forbid", strict=True)


class LoginBody(_Body):
    """Sign in with a password."""

    username: Username
    password: Password
    token_delivery: Delivery = "cookie"
    device_name: DeviceName | None = None
    client_id: ClientId = "first-party"
    remember_me: bool = True


class BackendClient(_Body):
    """What a backend knows of its user's client."""

    ip: Annotated[str, StringConstraints(max_length=64)] | None = None
    user_agent: Annotated[str, StringConstraints(max_length=4096)] | None = None
    hints: Annotated[
        dict[
            Annotated[str, StringConstraints(pattern=r"^sec-ch-ua[a-z-]{0,32}$")],
            Annotated[str, StringConstraints(max_length=256)],
        ],
        Field(max_length=8),
    ] = {}


class OpenSessionBody(_Body):
    """Open a session for a user whom a trusted backend has authenticated itself."""

    subject: Annotated[str, StringConstraints(min_length=1, max_length=254)]
    device_name: DeviceName | None = None
    client_id: ClientId = "first-party"
    remember_me: bool = True
    auth_methods: AuthMethods = ["user"]
    client: BackendClient = BackendClient()


class RefreshBody(BaseModel):
    """A refresh token in the body; clients that keep it in the cookie may send ``{}``."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.pop("required"))

    refresh_token: str


class ReauthenticateBody(_Body):
    """The password again; the refresh token where it is not in the cookie."""

    password: Password
    refresh_token: str | None = None


class ReauthenticatedBody(_Body):
    """How a trusted backend has authenticated its user again."""

    auth_methods: AuthMethods
    client: BackendClient = BackendClient()


class RenameBody(_Body):
    """A name for a device."""

    device_name: DeviceName


class PasswordBody(_Body):
    """A password change."""

    current_password: Password
    new_password: Password


class SessionSummary(BaseModel):
    """The session that tokens were issued for."""

    session_id: str
    family_id: str
    user_id: str
    subject: str
    client_id: str
    device_name: str | None
    generation: int
    created_at: datetime
    expires_at: datetime
    idle_expires_at: datetime


class Tokens(BaseModel):
    """Tokens of a session. ``refresh_token`` and ``device_token`` for delivery in the body only."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int = Field(description="Seconds until the access token expires")
    session: SessionSummary
    refresh_token: str | None = None
    device_token: str | None = Field(
        None, description="Send it back in the Sessiontrail-Device header from this device"
    )


class OAuthTokens(BaseModel):
    """RFC 6749 §5.1."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    refresh_token: str


class OAuthErrorModel(BaseModel):
    """RFC 6749 §5.2."""

    error: str
    error_description: str | None = None


class Device(BaseModel):
    """What is known of the device behind a session."""

    name: str | None = Field(description="What the user calls it")
    description: str | None = Field(description="What its client says it is")
    user_agent: str | None
    ip: str | None = Field(description="Address of the last refresh")
    network: str | None = Field(description="The /24 or /64 around it")


class SessionListed(BaseModel):
    """One of a user's sessions."""

    session_id: str
    family_id: str
    current: bool = Field(description="Whether it is the session that asks")
    client_id: str
    device: Device
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime = Field(description="When it ends if it is not used, or at the latest")


class SessionList(BaseModel):
    """A page of sessions, newest first."""

    sessions: list[SessionListed]
    next: str | None = Field(description="Pass as `before` for the next page")


class Ended(BaseModel):
    """How many session families an act ended."""

    ended: int


class Introspection(BaseModel):
    """RFC 7662 §2.2. An inactive token is exactly ``{"active": false}``."""

    active: bool
    token_type: Literal["Bearer", "refresh_token"] | None = None
    sub: str | None = None
    sid: str | None = None
    client_id: str | None = None
    iss: str | None = None
    aud: str | None = None
    exp: int | None = None
    iat: int | None = None
    auth_time: int | None = None
    amr: list[str] | None = None
    roles: list[str] | None = None


class Readiness(BaseModel):
    """Whether the service can do its work."""

    ready: bool
    not_ready: dict[str, str] = Field(description="Each part that is not ready, with its reason")
    optional: dict[str, str] = Field(
        description="What there is of each part that the service does without"
    )


class ProblemPage(BaseModel):
    """What a problem type means."""

    type: str
    title: str
    status: int


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str | None = None
    errors: list[dict[str, str]] | None = None
