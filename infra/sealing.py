"""Sealing personal data: each subject's data key under the master key, each event's part under it.

AES-256-GCM through ``cryptography``. A data key is wrapped by the master key with the subject's id
as associated data, so a wrapped key moved to another subject does not open; a personal part is
sealed with its event's id as associated data, so a box moved to another event does not open.
Erasing a subject deletes the wrapped key: the boxes stay, nobody can open them.
"""

import asyncio
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.events.personal import Personal, Sealed
from domain.ids import uuid_bytes

_NONCE_BYTES = 12
_KEY_BYTES = 32
_FORGET_EVERY_S = 30.0
"""A key that nobody asks for is gone after twice that at the latest."""
_WINDOW_BITS = -11
"""Raw deflate with a 2 KiB window: little set-up, and it holds the dictionary and a context."""

# What client contexts look like, likeliest text last (zlib looks back from the end). It takes a
# typical one from 350 to 70 bytes. Changing it makes stored boxes unreadable: it is format 1.
_DICTIONARY_1 = (
    b'{"networks":["{"username":"{"external_subject":""device_name":"'
    b'"sec-ch-ua-platform-version":""sec-ch-ua-model":""Linux"" Android"" iOS""\\"Android\\""'
    b"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    b"Gecko) Version/18.0 Mobile/15E148 Safari/604.1Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"
    b" AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15"
    b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    b"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
    b"Chrome/140.0.0.0 Mobile Safari/537.36"
    b"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
    b'Chrome/140.0.0.0 Safari/537.36","hints":{"sec-ch-ua":"\\"Chromium\\";v=\\"140\\", '
    b'\\"Not/A)Brand\\";v=\\"8\\", \\"Google Chrome\\";v=\\"140\\"","sec-ch-ua-mobile":"?1",'
    b'"sec-ch-ua-platform":"\\"macOS\\""},"device_key":"'
    b'{"client":{"ip":"","user_agent":"Mozilla/5.0 (Windows NT 10.0; Win64; x64) '
    b"AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
    b'","hints":{"sec-ch-ua":"\\"Not/A)Brand\\";v=\\"8\\", \\"Chromium\\";v=\\"140\\", '
    b'\\"Google Chrome\\";v=\\"140\\"","sec-ch-ua-mobile":"?0",'
    b'"sec-ch-ua-platform":"\\"Windows\\""},"device_key":"'
)
_FORMAT_1 = b"\x01"

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Personal)


class UnsealError(Exception):
    """A box or wrapped key that does not open: wrong key, wrong owner, or altered bytes."""


class DataKey:
    """One subject's data key, unwrapped. Never printed, never pickled."""

    __slots__ = ("_cipher",)

    def __init__(self, raw: bytes) -> None:
        """Take the 32 raw bytes of the key."""
        self._cipher = AESGCM(raw)

    def seal(self, personal: Personal, event_id: str) -> bytes:
        """The box to store for an event: format, nonce, ciphertext and tag."""
        deflate = zlib.compressobj(
            1, zlib.DEFLATED, _WINDOW_BITS, 2, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY_1
        )
        packed = deflate.compress(_encoder.encode(personal)) + deflate.flush()
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT_1 + nonce + self._cipher.encrypt(nonce, packed, uuid_bytes(event_id))

    def open(self, sealed: Sealed) -> Personal:
        """What a box holds.

        Raises:
            UnsealError: It does not open with this key, for this event.
        """
        box = sealed.box
        if box[:1] != _FORMAT_1:
            msg = f"the personal part of event {sealed.event_id} has an unknown format"
            raise UnsealError(msg)
        nonce, ciphertext = box[1 : 1 + _NONCE_BYTES], box[1 + _NONCE_BYTES :]
        try:
            packed = self._cipher.decrypt(nonce, ciphertext, uuid_bytes(sealed.event_id))
            inflate = zlib.decompressobj(_WINDOW_BITS, _DICTIONARY_1)
            return _decoder.decode(inflate.decompress(packed))
        except (InvalidTag, zlib.error, ValueError) as error:  # ValueError: cut short, not JSON
            msg = f"the personal part of event {sealed.event_id} does not open"
            raise UnsealError(msg) from error


@dataclass(frozen=True, slots=True, repr=False)
class MasterKeys:
    """The keys that wrap data keys and signing keys, by id. ``current_id`` wraps new ones."""

    current_id: int
    keys: Mapping[int, bytes]

    def wrap(self, secret: bytes, owner: str) -> bytes:
        """Seal a secret under the current master key, for ``owner`` only."""
        nonce = os.urandom(_NONCE_BYTES)
        box = AESGCM(self.keys[self.current_id]).encrypt(nonce, secret, owner.encode())
        return self.current_id.to_bytes(2, "big") + nonce + box

    def unwrap(self, wrapped: bytes, owner: str) -> bytes:
        """Open what ``wrap`` made.

        Raises:
            UnsealError: No such master key, or not wrapped for this owner.
        """
        key = self.keys.get(int.from_bytes(wrapped[:2], "big"))
        if key is None:
            msg = f"the key of {owner} is wrapped by a master key that is not in the ring"
            raise UnsealError(msg)
        nonce, box = wrapped[2 : 2 + _NONCE_BYTES], wrapped[2 + _NONCE_BYTES :]
        try:
            return AESGCM(key).decrypt(nonce, box, owner.encode())
        except (InvalidTag, ValueError) as error:  # ValueError: cut short
            msg = f"the wrapped key of {owner} does not open"
            raise UnsealError(msg) from error


class DataKeys:
    """Unwrapped data keys, kept for a while.

    The cache is keyed by the *wrapped* bytes, which every read brings along from the database: an
    erased subject has none to bring, so erasure takes effect everywhere at its commit. What lies
    there unreachable then goes within a minute, where ``run`` runs.
    """

    def __init__(self, masters: MasterKeys, max_cached: int = 10_000) -> None:
        """Keep at most ``max_cached`` unwrapped keys (about 1 kB each)."""
        self._masters = masters
        self._max_cached = max_cached
        self._cache: dict[bytes, DataKey] = {}
        self._old: dict[bytes, DataKey] = {}
        """Those that nobody has asked for since ``forget_unused``."""

    @property
    def masters(self) -> MasterKeys:
        """The master keys."""
        return self._masters

    def new(self, subject_id: str) -> bytes:
        """A new data key for a subject, wrapped."""
        return self._masters.wrap(os.urandom(_KEY_BYTES), subject_id)

    def unwrap(self, wrapped: bytes, subject_id: str) -> DataKey:
        """The data key of a subject.

        Raises:
            UnsealError: The master key is not in the ring or the bytes were altered.
        """
        key = self._cache.get(wrapped)
        if key is None:
            key = self._old.pop(wrapped, None)
            if key is None:
                key = DataKey(self._masters.unwrap(wrapped, subject_id))
            if len(self._cache) + len(self._old) >= self._max_cached:
                oldest = self._old or self._cache
                oldest.pop(next(iter(oldest)))  # dicts keep order
            self._cache[wrapped] = key
        return key

    def forget_unused(self) -> None:
        """Drop the keys that nobody asked for since the time before last."""
        self._old, self._cache = self._cache, {}

    async def run(self) -> None:
        """Drop what nobody asks for any more, until cancelled."""
        while True:
            await asyncio.sleep(_FORGET_EVERY_S)
            self.forget_unused()
