"""The table ``credentials``: each local user's password hash, sealed for them."""

from domain.user import User
from infra.postgres import Connection
from infra.sealed_hashes import SealedHashes
from infra.sealing import MasterKeys


class CredentialRows:
    """Reads and writes the hashes of users, within transactions of the caller's.

    A hash is sealed for the count of password changes too, so that an older one of the same user
    does not come back unless ``users``, which is verified against the log, is altered as well.
    """

    def __init__(self, masters: MasterKeys) -> None:
        """Seal and open with these master keys."""
        self._hashes = SealedHashes(masters)

    async def add(self, connection: Connection, user: User, password_hash: str) -> None:
        """Keep the hash of a new user."""
        await connection.execute(
            "INSERT INTO credentials (user_id, sealed_hash) VALUES (%s, %s)",
            (user.user_id, self._sealed(user, password_hash)),
        )

    async def replace(self, connection: Connection, user: User, password_hash: str) -> None:
        """Keep this hash instead of the user's one; ``user`` is as they are afterwards."""
        await connection.execute(
            "UPDATE credentials SET sealed_hash = %s WHERE user_id = %s",
            (self._sealed(user, password_hash), user.user_id),
        )

    async def read(self, connection: Connection, user: User) -> str | None:
        """The hash that is kept of a user: see ``domain.ports.SignIn``."""
        cursor = await connection.execute(
            "SELECT sealed_hash FROM credentials WHERE user_id = %s", (user.user_id,), binary=True
        )
        record = await cursor.fetchone()
        return self.opened(user, record[0] if record else None)

    def opened(self, user: User, sealed_hash: bytes | None) -> str | None:
        """The same, where the column was read with the user."""
        if sealed_hash is None:
            return None
        return self._hashes.open_password(user.user_id, user.credential_epoch, sealed_hash)

    def _sealed(self, user: User, password_hash: str) -> bytes:
        return self._hashes.seal_password(user.user_id, user.credential_epoch, password_hash)
