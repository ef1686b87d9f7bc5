"""What the HTTP layer needs from outside, as Protocols; ``infra`` implements them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from api.audit_ports import AuditHistories, Exports, Past
from api.console.ports import Activity, AlertReports, ConsoleQueries, RuleTrials
from api.tries import TriesUnderWay
from audit.signed_notes import Verifier
from audit.tree_ports import TreeReader
from domain.access_tokens import AccessClaims, IssuedToken
from domain.alert import Alert
from domain.alert_decisions import AlertCommand
from domain.alert_lists import AlertChanges, AlertFilter, AlertPage, AlertPlace
from domain.detection import Response, Severity
from domain.detection_policy import DetectionPolicy
from domain.detection_policy_decisions import (
    DetectionPolicyCommand,
    DetectionPolicyDecision,
    RuleParameters,
)
from domain.erasure import Erasure
from domain.events.envelope import Cause
from domain.evidence import NetworkLookup
from domain.histories import History
from domain.ids import AlertId, CorrelationId, FamilyId, SessionId, Stream, UserId
from domain.policy import SessionPolicy
from domain.ports import FamilyCommands, SessionQueries, UserCommands
from domain.rate_limiting import RateLimiter
from domain.refresh_token import TokenKeys
from domain.refusals import Refusal
from domain.service_keys import ServiceKey
from domain.user import EraseUser


class AccessTokens(Protocol):
    """Issues and verifies access tokens."""

    def issue(  # noqa: PLR0913 (a token says this much)
        self,
        *,
        sub: str,
        sid: SessionId,
        family_id: FamilyId,
        client_id: str,
        auth_time: datetime,
        auth_methods: Sequence[str],
        roles: Sequence[str],
        now: datetime,
        expires_at: datetime | None,
    ) -> IssuedToken:
        """A signed RFC 9068 access token."""
        ...

    def verify(self, token: str, now: datetime) -> AccessClaims:
        """The claims of a token of ours.

        Raises:
            InvalidAccessTokenError: It is not a valid token of ours at that instant.
        """
        ...


class PublishedKeys(Protocol):
    """A JWKS document as served."""

    @property
    def body(self) -> bytes:
        """JSON."""
        ...

    @property
    def etag(self) -> str:
        """Its entity tag, quoted."""
        ...


class KeyDocuments(Protocol):
    """The published signing keys."""

    def jwks(self, now: datetime) -> PublishedKeys:
        """The JWKS document as of an instant."""
        ...


class PasswordHasher(Protocol):
    """argon2id, off the event loop."""

    async def hash(self, password: str) -> str:
        """A hash to store."""
        ...

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether the password fits; None takes as long and never fits."""
        ...

    def needs_rehash(self, stored: str) -> bool:
        """Whether the hash has older parameters than new ones get."""
        ...


class SignInFailures(Protocol):
    """Counts failed sign-ins into one event a window and source."""

    def note(self, network: str, user_id: UserId | None, *, limited: bool) -> None:
        """Count one."""
        ...


class ServiceKeys(Protocol):
    """Keys of trusted backends."""

    async def authenticate(self, text: str) -> ServiceKey | None:
        """The key, if it is one of ours and live."""
        ...


class DeviceNames(Protocol):
    """Names a device from what its client says of itself."""

    def describe(self, user_agent: str | None, hints: Mapping[str, str]) -> str | None:
        """Such as ``Chrome on Windows``, or None where nothing is known."""
        ...


class Telemetry(Protocol):
    """Counters and the access log."""

    def request(
        self, method: str, route: str, status: int, seconds: float, correlation_id: CorrelationId
    ) -> None:
        """One request was answered."""
        ...

    def refresh(self, outcome: str) -> None:
        """One refresh came to this."""
        ...

    def login(self, outcome: str) -> None:
        """One sign-in came to this."""
        ...

    def rate_limited(self, name: str) -> None:
        """One request was turned away."""
        ...

    def render(self) -> tuple[bytes, str]:
        """The Prometheus exposition and its content type."""
        ...


class AlertCommands(Protocol):
    """Carries out what analysts do to alerts."""

    async def command(
        self, alert_id: AlertId, command: AlertCommand, cause: Cause
    ) -> Alert | Refusal:
        """Load, decide, append: the alert after it, or why it was refused."""
        ...


class AlertQueries(Protocol):
    """Reads of alerts."""

    async def page(self, wanted: AlertFilter, *, limit: int, after: AlertPlace | None) -> AlertPage:
        """A page of the alerts that are wanted, the worst and latest first."""
        ...

    async def alert(self, alert_id: AlertId) -> Alert | None:
        """One alert."""
        ...


class AlertFeed(Protocol):
    """Follows what happens to alerts, for as long as somebody listens."""

    @property
    def closed(self) -> bool:
        """Whether everybody who listens is to stop."""
        ...

    def listening(self) -> AbstractContextManager[None]:
        """Keep the feed reading for as long as the block lasts."""
        ...

    async def place(self, cursor: str | None) -> tuple[str, bool]:
        """Where to begin; and whether that is without a gap where ``cursor`` says."""
        ...

    async def after(self, cursor: str, wait_s: float) -> AlertChanges:
        """What happened behind a place; waits for something to happen, not longer than that."""
        ...


class Erasures(Protocol):
    """Erases persons."""

    async def erase(self, user_id: UserId, command: EraseUser, cause: Cause) -> Erasure | Refusal:
        """Erase a person; what was done, or why it was refused. Twice is no error."""
        ...


class Histories(Protocol):
    """Reads streams as people do, personal parts open."""

    async def last(self, stream: Stream, limit: int) -> History:
        """The last events of a stream, in order; none where there is no such stream."""
        ...


class DetectionPolicies(Protocol):
    """The detection policy."""

    async def current(self) -> DetectionPolicy:
        """What is in force."""
        ...

    async def command(
        self, command: DetectionPolicyCommand, rules: RuleParameters, cause: Cause
    ) -> DetectionPolicyDecision:
        """Load, decide by the rules that there are, append."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedRule:
    """What a detection rule says of itself.

    Attributes:
        name: Stable; alerts and the policy name it.
        version: Raised when it would judge the same events otherwise.
        title: A few words.
        looks_for: What it looks for.
        why: Why that matters.
        techniques: MITRE ATT&CK technique ids.
        false_positives: Who else looks like that.
        severity: Unless the policy says otherwise.
        response: Unless the policy says otherwise.
        parameters: Its thresholds, with their defaults.
    """

    name: str
    version: int
    title: str
    looks_for: str
    why: str
    techniques: Sequence[str]
    false_positives: Sequence[str]
    severity: Severity
    response: Response
    parameters: Mapping[str, int]


class Rulebook(Protocol):
    """The detection rules that there are."""

    def described(self) -> Mapping[str, DescribedRule]:
        """Every rule, by name."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that the routes are wired to, and the settings that concern them.

    Attributes:
        common_passwords: Passwords that nobody may choose; read when first asked for.
        log_key: Says the public key that heads are signed with; None where it is not known (yet).
        token_keys: The ring now in use (it is looked up at each request: keys rotate).
        now: The database's clock as this process knows it; for access tokens only.
        not_ready: Names of the parts that are not ready, each with its reason.
        optional: What there is of the parts that the service does without, by their names.
        issuer: The URL that clients reach the service under.
        allowed_origins: Other origins whose pages may use the refresh cookie.
        trusted_proxies: Networks (CIDR) whose X-Forwarded-For is believed.
        networks: Tells pages where an address is.
        device_key: Key of the MAC in device cookies.
        form_key: Key of the MAC in the console's forms.
        tries: The tries at a password that are being hashed.
    """

    families: FamilyCommands
    users: UserCommands
    sessions: SessionQueries
    access_tokens: AccessTokens
    keys: KeyDocuments
    passwords: PasswordHasher
    common_passwords: Callable[[], frozenset[str]]
    failures: SignInFailures
    service_keys: ServiceKeys
    alerts: AlertCommands
    alert_queries: AlertQueries
    alert_feed: AlertFeed
    histories: Histories
    past: Past
    audit_histories: AuditHistories
    exports: Exports
    erasures: Erasures
    tree: TreeReader
    log_key: Callable[[], Verifier | None]
    detection_policies: DetectionPolicies
    rulebook: Rulebook
    limits: RateLimiter
    console: ConsoleQueries
    alert_reports: AlertReports
    activity: Activity
    rule_trials: RuleTrials
    networks: NetworkLookup
    devices: DeviceNames
    telemetry: Telemetry
    policy: SessionPolicy
    token_keys: Callable[[], TokenKeys]
    device_key: bytes
    form_key: bytes
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    random_bytes: Callable[[int], bytes]
    not_ready: Callable[[], Awaitable[Mapping[str, str]]]
    optional: Callable[[], Mapping[str, str]]
    issuer: str
    allowed_origins: frozenset[str]
    trusted_proxies: Sequence[str]
    tries: TriesUnderWay = field(default_factory=TriesUnderWay)
