"""Events of signing keys and service keys: streams without a state of their own."""

from typing import ClassVar

from domain.events.registry import Event, register


@register
class SigningKeyCreated(Event, frozen=True, kw_only=True):
    """A signing key was made and published; it signs from ``signs_from_us`` on.

    Attributes:
        kid: RFC 7638 thumbprint.
        algorithm: JWS algorithm, such as ``EdDSA``.
        public_jwk: The public key as a JWK, JSON text.
        signs_from_us: Microseconds since 1970 UTC.
    """

    TYPE: ClassVar[str] = "SigningKeyCreated"

    kid: str
    algorithm: str
    public_jwk: str
    signs_from_us: int


@register
class SigningKeyRetired(Event, frozen=True, kw_only=True):
    """A signing key stopped signing; it verifies until ``verifies_until_us``.

    A compromised key has ``compromised`` set and verifies no longer than this event.
    """

    TYPE: ClassVar[str] = "SigningKeyRetired"

    kid: str
    verifies_until_us: int
    compromised: bool = False


@register
class ServiceKeyAdded(Event, frozen=True, kw_only=True):
    """A trusted backend got a key."""

    TYPE: ClassVar[str] = "ServiceKeyAdded"

    key_id: str
    name: str
    scopes: list[str]


@register
class ServiceKeyRevoked(Event, frozen=True, kw_only=True):
    """A backend's key was taken away."""

    TYPE: ClassVar[str] = "ServiceKeyRevoked"

    key_id: str
