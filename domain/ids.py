"""Identifier types. All are canonical lower-case UUID text unless said otherwise."""

from typing import NewType
from uuid import UUID

UserId = NewType("UserId", str)
FamilyId = NewType("FamilyId", str)
SessionId = NewType("SessionId", str)
EventId = NewType("EventId", str)
AlertId = NewType("AlertId", str)
CorrelationId = NewType("CorrelationId", str)
Stream = NewType("Stream", str)
"""A stream name such as ``family-<uuid>``: the unit of ordering and of optimistic concurrency."""

SYSTEM_SUBJECT = UserId("00000000-0000-7000-8000-000000000001")
"""Whose data key seals what concerns no user in particular, such as the networks of sources.

It stands in the envelope too, so that a reader finds the key as it does for everybody else.
"""


def family_stream(family_id: FamilyId) -> Stream:
    """The stream that holds every event of one session family."""
    return Stream("family-" + family_id)


def user_stream(user_id: UserId) -> Stream:
    """The stream that holds a user's registration, credentials changes and status."""
    return Stream("user-" + user_id)


def key_stream(kid: str) -> Stream:
    """The stream that holds one signing key's life."""
    return Stream("key-" + kid)


def alert_stream(alert_id: AlertId) -> Stream:
    """The stream that holds an alert's life."""
    return Stream("alert-" + alert_id)


DETECTION_POLICY_STREAM = Stream("policy-detection")
"""The stream that holds every change to the detection policy."""
IMPORTS_STREAM = Stream("policy-imports")
"""The stream that holds which earlier sign-ins the detector was taught."""
SNAPSHOTS_STREAM = Stream("audit-snapshots")
"""The stream that holds which snapshots were taken."""
ARCHIVES_STREAM = Stream("audit-archives")
"""The stream that holds which parts of the log went into files."""
REVEALS_STREAM = Stream("audit-reveals")
"""The stream that holds whose personal data auditors had opened."""
EXPORTS_STREAM = Stream("audit-exports")
"""The stream that holds who took what out of the log."""


def parse_uuid(text: str) -> str | None:
    """Canonical form of a UUID that came from outside.

    Args:
        text: What the client sent.

    Returns:
        Lower-case hyphenated text, or None where it is not a UUID.
    """
    try:
        return str(UUID(text)) if len(text) == 36 else None  # noqa: PLR2004 (canonical length)
    except ValueError:
        return None


def uuid_bytes(text: str) -> bytes:
    """The 16 bytes of a canonical UUID text (a third of the cost of going through ``UUID``)."""
    return bytes.fromhex(text.replace("-", ""))


def uuid_text(raw: bytes) -> str:
    """The canonical text of 16 UUID bytes."""
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
