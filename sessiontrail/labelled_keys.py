"""Keys for one purpose each, derived from the master key (HKDF-SHA-256, RFC 5869)."""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from infra.sealing import MasterKeys


def labelled_key(masters: MasterKeys, purpose: str) -> bytes:
    """32 bytes for one purpose: derived from the *oldest* master key, so rotation keeps them."""
    oldest = masters.keys[min(masters.keys)]
    derivation = HKDF(SHA256(), 32, salt=None, info=b"sessiontrail " + purpose.encode("utf-8"))
    return derivation.derive(oldest)
