"""What identifies a person, kept apart from the event it belongs to.

The store seals it with the subject's data key. A fold carries it along without looking inside,
so a reader may leave it sealed; erasing the subject destroys the key and leaves the event whole.
"""

import msgspec

from domain.client import ClientContext


class Personal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The personal part of an event: each event type uses the fields it has something for."""

    client: ClientContext | None = None
    device_name: str | None = None
    username: str | None = None
    external_subject: str | None = None
    networks: list[str] | None = None
    facts: dict[str, str] | None = None
    comment: str | None = None


class Sealed(msgspec.Struct, frozen=True):
    """A personal part still under its subject's key, or whose key is gone.

    Attributes:
        event_id: The event it was sealed for; the seal holds for no other.
        box: Nonce, ciphertext and tag.
    """

    event_id: str
    box: bytes


PersonalPart = Personal | Sealed | None


def client_of(part: PersonalPart) -> ClientContext | Sealed | None:
    """The client in a personal part, or the unopened box that holds it."""
    return part.client if isinstance(part, Personal) else part


def device_name_of(part: PersonalPart) -> str | Sealed | None:
    """The device name in a personal part, or the unopened box that holds it."""
    return part.device_name if isinstance(part, Personal) else part
