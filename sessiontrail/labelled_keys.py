"""Keys for one purpose each, derived from the master key (HKDF-SHA-256, RFC 5869)."""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from detector.crowd_names import Conceal, concealed_with
from infra.sealing import MasterKeys


def labelled_key(masters: MasterKeys, purpose: str) -> bytes:
    """32 bytes for one purpose: derived from the *oldest* master key, so rotation keeps them."""
    oldest = masters.keys[min(masters.keys)]
    derivation = HKDF(SHA256(), 32, salt=None, info=b"sessiontrail " + purpose.encode("utf-8"))
    return derivation.derive(oldest)


def crowd_concealment(masters: MasterKeys) -> Conceal:
    """What networks and clients are called in the detector's counts over many users."""
    return concealed_with(labelled_key(masters, "crowd names"))
