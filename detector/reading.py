"""Recorded events as observations."""

from ipaddress import ip_network
from typing import assert_never

from detector.crowd_names import Conceal, CrowdNames, crowd_names, in_clear
from detector.observations import NO_CLIENT, Failures, Kind, Observation
from domain.client import ClientContext
from domain.detection import Verdict
from domain.detection_work import Stage
from domain.events.alerts import AlertRaised, AlertResolved
from domain.events.envelope import RecordedEvent
from domain.events.families import (
    FamilyRevoked,
    RefreshRetried,
    RefreshTokenReused,
    RefreshTokenRotated,
    RefreshTokenUnrecognised,
    SessionEnded,
    SessionExpired,
    SessionStarted,
    StepUpCompleted,
)
from domain.events.personal import Personal
from domain.events.registry import Event
from domain.events.sign_in_failures import SignInFailuresCounted
from domain.events.users import UserErased
from domain.evidence import Device, DeviceReader, Network, NetworkLookup
from domain.ids import SYSTEM_SUBJECT, FamilyId, Stream

_OF_CROWD: tuple[type[Event], ...] = (
    SessionStarted,
    SignInFailuresCounted,
    AlertRaised,
    UserErased,
)
_OF_USERS: tuple[type[Event], ...] = (
    SessionStarted,
    RefreshTokenRotated,
    RefreshRetried,
    RefreshTokenReused,
    RefreshTokenUnrecognised,
    StepUpCompleted,
    SessionEnded,
    SessionExpired,
    FamilyRevoked,
    AlertResolved,
    UserErased,
)
_FAMILY = "family-"


def types_of(stage: Stage) -> tuple[type[Event], ...]:
    """The event types that a stage reads; it passes the others over."""
    match stage:
        case Stage.CROWD:
            return _OF_CROWD
        case Stage.USERS:
            return _OF_USERS
        case _:
            assert_never(stage)


class EventReader:
    """Makes observations of events, with what the look-ups tell of their clients."""

    def __init__(
        self, devices: DeviceReader, networks: NetworkLookup, conceal: Conceal = in_clear
    ) -> None:
        """Look up with these.

        Args:
            devices: Devices.
            networks: Networks.
            conceal: Names for what is counted over many users.
        """
        self._devices = devices
        self._networks = networks
        self._conceal = conceal

    def read(self, recorded: RecordedEvent) -> Observation | None:
        """The observation that an event is; None for one that says nothing to rules.

        The personal part of an erased user does not open: their events are read without client.
        """
        event = recorded.event
        match event:
            case SignInFailuresCounted():
                return self._failures(recorded, event)
            case AlertRaised():
                return self._found(recorded, event)
            case AlertResolved():
                return _of_user(recorded, Kind.VERDICT, event.family_id, event.verdict)
            case UserErased():
                return _of_user(recorded, Kind.ERASED, None)
            case SessionEnded() | SessionExpired() | FamilyRevoked():
                return _of_user(recorded, Kind.ENDED, _family_of(recorded.stream))
            case _:
                presented = _presented(event)
                return None if presented is None else self._seen(recorded, *presented)

    def _seen(
        self,
        recorded: RecordedEvent,
        kind: Kind,
        presented: int,
        current: int,
    ) -> Observation:
        client = _client_of(recorded)
        network, device = self._networks.network(client.ip), self._devices.device(client)
        return Observation(
            kind=kind,
            second=recorded.occurred_at.timestamp(),
            event_id=recorded.event_id,
            user_id=recorded.subject_id,
            family_id=_family_of(recorded.stream),
            generation=presented,
            current_generation=current,
            client=client,
            network=network,
            device=device,
            concealed=self._names(client, network, device) if kind is Kind.SIGN_IN else None,
        )

    def _failures(self, recorded: RecordedEvent, event: SignInFailuresCounted) -> Observation:
        personal = recorded.personal
        networks = (personal.networks if isinstance(personal, Personal) else None) or []
        source = networks[0] if len(networks) == 1 else None
        return Observation(
            kind=Kind.SIGN_IN_FAILURES,
            second=recorded.occurred_at.timestamp(),
            event_id=recorded.event_id,
            network=self._networks.network(_an_address_in(source)),
            failures=Failures(
                None if source is None else self._conceal(source),
                event.failures,
                event.unknown_accounts,
                tuple((account.user_id, account.count) for account in event.accounts),
                event.accounts_omitted,
            ),
        )

    def _found(self, recorded: RecordedEvent, event: AlertRaised) -> Observation | None:
        client = _client_of(recorded)
        if recorded.subject_id in {None, SYSTEM_SUBJECT}:
            return None
        network, device = self._networks.network(client.ip), self._devices.device(client)
        return Observation(
            kind=Kind.FOUND,
            second=event.happened_at_us / 1_000_000,
            event_id=recorded.event_id,
            user_id=recorded.subject_id,
            family_id=event.family_id,
            client=client,
            network=network,
            device=device,
            rule=event.rule,
            response=event.response,
            concealed=self._names(client, network, device),
        )

    def _names(self, client: ClientContext, network: Network, device: Device) -> CrowdNames:
        return crowd_names(client, network, device, self._conceal)


def _presented(event: Event) -> tuple[Kind, int, int] | None:
    """What kind of request an event came of: the generation presented, and the one then current."""
    match event:
        case SessionStarted():
            return Kind.SIGN_IN, 0, 1
        case RefreshTokenRotated():
            return Kind.REFRESH, event.generation - 1, event.generation
        case RefreshRetried():
            kind = Kind.LATE_RETRY if event.late else Kind.RETRY
            return kind, event.generation - 1, event.generation
        case RefreshTokenReused():
            return Kind.REUSE, event.presented_generation, event.current_generation
        case RefreshTokenUnrecognised():
            return Kind.UNRECOGNISED, event.presented_generation, event.current_generation
        case StepUpCompleted():
            return Kind.STEPPED_UP, 0, 0
        case _:
            return None


def _of_user(
    recorded: RecordedEvent,
    kind: Kind,
    family_id: FamilyId | None,
    verdict: Verdict | None = None,
) -> Observation:
    return Observation(
        kind=kind,
        second=recorded.occurred_at.timestamp(),
        event_id=recorded.event_id,
        user_id=recorded.subject_id,
        family_id=family_id,
        verdict=verdict,
    )


def _client_of(recorded: RecordedEvent) -> ClientContext:
    personal = recorded.personal
    if isinstance(personal, Personal) and personal.client is not None:
        return personal.client
    return NO_CLIENT


def _family_of(stream: Stream) -> FamilyId:
    return FamilyId(stream.removeprefix(_FAMILY))


def _an_address_in(prefix: str | None) -> str | None:
    if prefix is None:
        return None
    try:
        return str(ip_network(prefix, strict=False).network_address)
    except ValueError:
        return None
