"""Golden files: yesterday's bytes of every event type and schema version, in tests/golden/events.

A file is written once, when its type or version is new, and nothing in it is ever changed: what the
log holds, and what its proofs hash, does not change either. To add one, put an example here and run
``python -m tests.unit.domain.golden --write SessionStarted.v1``. Further examples, such as of a new
reason, go behind the others, here and with ``--extend SessionEnded.v1``.

A new version of a type keeps the examples of the old one, as what its data is upcast to.
"""

import argparse
import json
import pkgutil
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import cast

import msgspec

import domain.events
from domain.audit_history import HistoryScope
from domain.detection import Outcome, Response, Severity, Verdict
from domain.events.alerts import (
    AlertAcknowledged,
    AlertAnswered,
    AlertAssigned,
    AlertCommented,
    AlertRaised,
    AlertReopened,
    AlertRepeated,
    AlertResolved,
    WeighedFact,
)
from domain.events.archives import LogArchived, LogRestored
from domain.events.canonical import JsonValue, canonical_event_bytes, from_microseconds
from domain.events.detection_policies import (
    AllowedKind,
    AllowListed,
    AllowListEntryRemoved,
    RuleConfigured,
    RuleHeldBack,
)
from domain.events.exports import LogExported
from domain.events.families import (
    EndedSessionRefreshRefused,
    EndReason,
    ExpiryKind,
    FamilyRevoked,
    RefreshRetried,
    RefreshTokenReused,
    RefreshTokenRotated,
    RefreshTokenUnrecognised,
    SessionEnded,
    SessionExpired,
    SessionRenamed,
    SessionStarted,
    StepUpCompleted,
    StepUpRequired,
    TokenDelivery,
)
from domain.events.imports import SignInsImported
from domain.events.keys import (
    ServiceKeyAdded,
    ServiceKeyRevoked,
    SigningKeyCreated,
    SigningKeyRetired,
)
from domain.events.registry import Event, registered_types
from domain.events.reveals import PersonalDataRevealed
from domain.events.sign_in_failures import AccountFailures, SignInFailuresCounted
from domain.events.snapshots import SnapshotTaken
from domain.events.users import (
    PasswordChanged,
    Role,
    RolesChanged,
    UserDisabled,
    UserEnabled,
    UserErased,
    UserOrigin,
    UserRegistered,
    UserSessionsEnded,
)
from domain.exports import ExportFormat
from domain.ids import EventId, FamilyId, SessionId, UserId

FOLDER = Path(__file__).parents[2] / "golden" / "events"

_SESSION = SessionId("0195513a-0000-7000-8000-000000005e01")
_USER = UserId("0195513a-0000-7000-8000-00000000ada1")
_FAMILY = FamilyId("0195513a-0000-7000-8000-00000000fa01")
_TRIGGER = EventId("0195513a-0000-7000-8000-0000000e7e00")
_ENTRY = "0195513a-0000-7000-8000-0000000e4701"
_HASH = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
_SALT = "AAECAwQFBgcICQoLDA0ODw"
_END_REASONS = [
    EndReason.LOGOUT,
    EndReason.LOGOUT_OTHERS,
    EndReason.LOGOUT_ALL,
    EndReason.SESSION_LIMIT,
    EndReason.PASSWORD_CHANGED,
    EndReason.USER_DISABLED,
    EndReason.TOKEN_REUSE,
    EndReason.TOKEN_REVOKED,
    EndReason.STAFF,
    EndReason.RULE,
]
_LATER_END_REASONS = [EndReason.USER_ERASED, EndReason.REPORTED]
"""Each further one goes behind these."""
_KID = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"

EXAMPLES: Mapping[str, Sequence[Event]] = {
    "SessionStarted.v1": [
        SessionStarted(
            session_id=_SESSION,
            user_id=_USER,
            client_id="web",
            auth_methods=["pwd", "otp"],
            delivery=TokenDelivery.COOKIE,
            persistent=True,
            secret_hash=_HASH,
            token_key=1,
            idle_timeout_s=1_209_600,
            absolute_lifetime_s=7_776_000,
        ),
        SessionStarted(
            session_id=_SESSION,
            user_id=_USER,
            client_id="",
            auth_methods=[],
            delivery=TokenDelivery.BODY,
            persistent=False,
            secret_hash=_HASH,
            token_key=65_535,
            idle_timeout_s=3_600,
            absolute_lifetime_s=86_400,
        ),
    ],
    "RefreshTokenRotated.v1": [
        RefreshTokenRotated(generation=2, secret_hash=_HASH, salt=_SALT, token_key=1),
        RefreshTokenRotated(
            session=1, generation=50_000, secret_hash=_HASH, salt=_SALT, token_key=7
        ),
    ],
    "RefreshRetried.v1": [
        RefreshRetried(generation=2),
        RefreshRetried(session=1, generation=3, late=True),
    ],
    "RefreshTokenReused.v1": [
        RefreshTokenReused(presented_generation=1, current_generation=2),
        RefreshTokenReused(session=1, presented_generation=3, current_generation=9),
    ],
    "RefreshTokenUnrecognised.v1": [
        RefreshTokenUnrecognised(presented_generation=4_294_967_295, current_generation=1),
        RefreshTokenUnrecognised(session=1, presented_generation=3, current_generation=3),
    ],
    "EndedSessionRefreshRefused.v1": [
        EndedSessionRefreshRefused(presented_generation=1),
        EndedSessionRefreshRefused(session=1, presented_generation=2),
    ],
    "SessionRenamed.v1": [SessionRenamed(), SessionRenamed(session=1)],
    "SessionEnded.v1": [
        *(SessionEnded(reason=reason) for reason in _END_REASONS),
        SessionEnded(session=1, reason=EndReason.LOGOUT),
        *(SessionEnded(reason=reason) for reason in _LATER_END_REASONS),
    ],
    "SessionExpired.v1": [
        SessionExpired(kind=ExpiryKind.IDLE),
        SessionExpired(session=1, kind=ExpiryKind.ABSOLUTE),
    ],
    "FamilyRevoked.v1": [
        FamilyRevoked(reason=reason) for reason in (*_END_REASONS, *_LATER_END_REASONS)
    ],
    "StepUpRequired.v1": [StepUpRequired()],
    "StepUpCompleted.v1": [
        StepUpCompleted(auth_methods=["pwd"]),
        StepUpCompleted(session=1, auth_methods=["pwd", "otp", "hwk"]),
    ],
    "UserRegistered.v1": [
        UserRegistered(origin=UserOrigin.LOCAL, roles=[Role.ADMIN, Role.ANALYST, Role.AUDITOR]),
        UserRegistered(origin=UserOrigin.EXTERNAL),
    ],
    "PasswordChanged.v1": [PasswordChanged()],
    "RolesChanged.v1": [
        RolesChanged(roles=[]),
        RolesChanged(roles=[Role.ADMIN, Role.ANALYST, Role.AUDITOR]),
    ],
    "UserDisabled.v1": [UserDisabled()],
    "UserEnabled.v1": [UserEnabled()],
    "UserSessionsEnded.v1": [UserSessionsEnded(reason=EndReason.LOGOUT_ALL, families=10_000)],
    "UserErased.v1": [UserErased(), UserErased(reason="request 4711")],
    "SigningKeyCreated.v1": [
        SigningKeyCreated(
            kid=_KID,
            algorithm="EdDSA",
            public_jwk='{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrw"}',
            signs_from_us=1_772_366_400_250_001,
        )
    ],
    "SigningKeyRetired.v1": [
        SigningKeyRetired(kid=_KID, verifies_until_us=1_772_366_400_250_001),
        SigningKeyRetired(kid=_KID, verifies_until_us=0, compromised=True),
    ],
    "ServiceKeyAdded.v1": [
        ServiceKeyAdded(
            key_id="00112233aabbccdd",
            name='Zürich "Süd" \\ 🏦\t',
            scopes=["sessions:create", "tokens:introspect"],
        )
    ],
    "ServiceKeyRevoked.v1": [ServiceKeyRevoked(key_id="00112233aabbccdd")],
    "SignInFailuresCounted.v1": [
        SignInFailuresCounted(window_start_us=1_772_366_400_000_000, window_s=60, failures=1),
        SignInFailuresCounted(
            window_start_us=1_772_366_400_000_000,
            window_s=60,
            failures=10_000,
            limited=9_000,
            unknown_accounts=500,
            accounts=[AccountFailures(_USER, 300), AccountFailures(UserId(_SESSION), 200)],
            accounts_omitted=17,
        ),
    ],
    "AlertRaised.v1": [
        *(
            AlertRaised(
                user_id=_USER,
                rule="device-and-network-change",
                rule_version=2,
                policy_version=7,
                severity=severity,
                response=Response.REVOKE_FAMILY,
                family_id=_FAMILY,
                trigger_id=_TRIGGER,
                happened_at_us=1_772_366_400_250_001,
                score_m=12_345,
                facts=[WeighedFact("new_asn", 60), WeighedFact("known_city", -5)],
            )
            for severity in Severity
        ),
        *(
            AlertRaised(
                rule="credential-stuffing",
                rule_version=1,
                policy_version=0,
                severity=Severity.HIGH,
                response=response,
                trigger_id=_TRIGGER,
                happened_at_us=0,
                count=10_000,
            )
            for response in Response
        ),
    ],
    "AlertRepeated.v1": [
        AlertRepeated(
            trigger_id=_TRIGGER,
            happened_at_us=1_772_366_400_250_001,
            severity=Severity.LOW,
            response=Response.ALERT,
        ),
        AlertRepeated(
            trigger_id=_TRIGGER,
            happened_at_us=1_772_366_400_250_001,
            severity=Severity.CRITICAL,
            response=Response.REVOKE_ALL,
            score_m=0,
            facts=[WeighedFact("failures", 100)],
            count=500,
        ),
    ],
    "AlertAnswered.v1": [
        *(AlertAnswered(response=response, outcome=Outcome.DONE) for response in Response),
        AlertAnswered(response=Response.REVOKE_ALL, outcome=Outcome.DONE, families=17),
        AlertAnswered(response=Response.STEP_UP, outcome=Outcome.NOTHING_LEFT),
        AlertAnswered(response=Response.REVOKE_FAMILY, outcome=Outcome.HELD_BACK),
    ],
    "AlertAcknowledged.v1": [AlertAcknowledged()],
    "AlertAssigned.v1": [AlertAssigned(assignee=_USER), AlertAssigned(assignee=None)],
    "AlertCommented.v1": [AlertCommented()],
    "AlertResolved.v1": [AlertResolved(verdict=verdict) for verdict in Verdict],
    "AlertReopened.v1": [AlertReopened()],
    "RuleConfigured.v1": [
        RuleConfigured(rule="impossible-travel"),
        RuleConfigured(
            rule="impossible-travel",
            enabled=False,
            severity=Severity.INFO,
            response=Response.RECORD,
            parameters={"min_km": 500, "max_kmh": 900},
        ),
    ],
    "AllowListed.v1": [
        AllowListed(
            entry_id=_ENTRY,
            kind=AllowedKind.NETWORK,
            owner=_USER,
            until_us=1_772_366_400_250_001,
        ),
        AllowListed(
            entry_id=_ENTRY,
            kind=AllowedKind.ASN,
            asn=4_294_967_295,
            rule="impossible-travel",
            owner=_USER,
            until_us=1_772_366_400_250_001,
        ),
        AllowListed(
            entry_id=_ENTRY,
            kind=AllowedKind.USER,
            user_id=_USER,
            owner=_USER,
            until_us=1_772_366_400_250_001,
        ),
    ],
    "AllowListEntryRemoved.v1": [AllowListEntryRemoved(entry_id=_ENTRY)],
    "RuleHeldBack.v1": [
        RuleHeldBack(
            rule="impossible-travel",
            families=120,
            active=10_000,
            until_us=1_772_366_400_250_001,
        )
    ],
    "SignInsImported.v1": [
        SignInsImported(
            sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            lines=12_000,
            sign_ins=4_000,
            users=900,
            registered=31,
        )
    ],
    "SnapshotTaken.v1": [
        SnapshotTaken(
            snapshot_id=_SESSION,
            format=1,
            transaction_id=9_007_199_254_740_991,
            position=1_000_000,
            latest_at_us=1_772_366_400_250_001,
            states=12_345,
            sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        )
    ],
    "LogArchived.v1": [
        LogArchived(
            archive_id=_SESSION,
            first_leaf=0,
            end_leaf=1_000_192,
            snapshot_id=_FAMILY,
            file_name="log-000000000000-000001000192.gz",
            sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            kept=12,
        )
    ],
    "LogRestored.v1": [LogRestored(archive_id=_SESSION)],
    "LogExported.v1": [
        LogExported(
            export_format=form,
            events=3,
            sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            head_size=1_000,
            revealed=form is ExportFormat.OCSF,
            since_us=1_764_028_800_000_000,
            types=["SessionStarted"],
        )
        for form in ExportFormat
    ],
    "PersonalDataRevealed.v1": [
        PersonalDataRevealed(scope=scope, scope_id=_USER) for scope in HistoryScope
    ],
}
"""What the data in each golden file reads as today."""


class GoldenExample(msgspec.Struct, frozen=True):
    """One stored event: its data, and the canonical bytes of the fixed envelope around it."""

    data: dict[str, object]
    canonical: str


class GoldenFile(msgspec.Struct, frozen=True):
    """The examples of one version of one event type."""

    type: str
    schema_version: int
    examples: list[GoldenExample]


def current_names() -> dict[str, type[Event]]:
    """The golden file that each event type of the domain must have for its current version."""
    for module in pkgutil.iter_modules(domain.events.__path__):
        import_module(f"domain.events.{module.name}")
    return {
        f"{name}.v{cls.SCHEMA_VERSION}": cls
        for name, cls in registered_types().items()
        if cls.__module__.startswith("domain.")  # tests enter types of their own
    }


def read(name: str, folder: Path = FOLDER) -> GoldenFile:
    """The golden file of that name, such as ``SessionStarted.v1``."""
    return msgspec.json.decode((folder / f"{name}.json").read_bytes(), type=GoldenFile)


def stored_data(event: Event) -> dict[str, object]:
    """What the log stores of an event."""
    return msgspec.json.decode(msgspec.json.encode(event), type=dict[str, object])


def canonical_text(type_: str, schema_version: int, data: dict[str, object]) -> str:
    """The canonical bytes of an event with that data in the fixed envelope, as text."""
    return canonical_event_bytes(
        position=42,
        stream="family-0195513a-0000-7000-8000-00000000fa01",
        version=7,
        event_id="0195513a-0000-7000-8000-0000000e7e01",
        type_=type_,
        schema_version=schema_version,
        occurred_at=from_microseconds(1_772_366_400_250_001),
        subject_id=_USER,
        actor="staff:0195513a-0000-7000-8000-00000000a11a",
        correlation_id="0195513a-0000-7000-8000-00000000c001",
        causation_id="0195513a-0000-7000-8000-0000000e7e00",
        data=cast("dict[str, JsonValue]", data),
        sealed_personal=bytes(range(251, 256)),
    ).decode("utf-8")


def write(name: str, folder: Path = FOLDER) -> Path:
    """Write the golden file of a type's current version.

    Raises:
        KeyError: No type has that as its current version, or it has no example here.
        FileExistsError: It was written before.
    """
    path = folder / f"{name}.json"
    text = _text_of(_today(name))
    with path.open("x", encoding="utf-8", newline="\n") as file:
        file.write(text)
    return path


def extend(name: str, folder: Path = FOLDER) -> None:
    """Put the examples that a golden file has not got yet behind those that it has.

    Raises:
        KeyError: It is not a current version of an event type.
        FileNotFoundError: There is no such file yet.
        ValueError: The examples do not begin with those in the file.
    """
    before, today = read(name, folder), _today(name)
    if today.examples[: len(before.examples)] != before.examples:
        msg = f"the examples of {name} do not begin with those in its file"
        raise ValueError(msg)
    path = folder / f"{name}.json"
    path.write_text(_text_of(today), encoding="utf-8", newline="\n")


def _today(name: str) -> GoldenFile:
    """What the file would be if it were written today."""
    cls = current_names()[name]
    examples = [stored_data(event) for event in EXAMPLES[name]]
    return GoldenFile(
        type=cls.TYPE,
        schema_version=cls.SCHEMA_VERSION,
        examples=[
            GoldenExample(data, canonical_text(cls.TYPE, cls.SCHEMA_VERSION, data))
            for data in examples
        ],
    )


def _text_of(golden: GoldenFile) -> str:
    return json.dumps(msgspec.to_builtins(golden), ensure_ascii=False, indent=2) + "\n"


def main() -> None:
    """Write or extend one golden file, or say in one line why not."""
    parser = argparse.ArgumentParser(prog="python -m tests.unit.domain.golden")
    deeds = parser.add_mutually_exclusive_group(required=True)
    deeds.add_argument("--write", metavar="NAME", help="a type and version, as SessionStarted.v1")
    deeds.add_argument("--extend", metavar="NAME", help="the same, which has further examples")
    asked = parser.parse_args()
    name = asked.write or asked.extend
    try:
        if asked.write:
            write(name)
        else:
            extend(name)
    except KeyError:
        parser.error(
            f"{name} is not a current version of an event type with an example in EXAMPLES"
        )
    except FileExistsError as error:
        parser.error(f"{error.filename} is there already, and a golden file is never changed")
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
