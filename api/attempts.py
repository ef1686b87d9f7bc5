"""One try at a password: the limits that it counts against, and the hash that it renews."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.ports import Services
from api.problems import ProblemError, ProblemKind, rate_limited
from api.requests import is_known_device
from api.tries import LimitKey, LimitReachedError
from domain.client import ClientContext, network_of, site_of
from domain.ports import SignIn
from domain.rate_limiting import LimitName

_UNKNOWN_NETWORK = "unknown"


class PasswordAttempt:
    """One try at a password, and the limits it counts against.

    A device that signed in to this account before has a limit of its own, so that strangers who
    exhaust the account's cannot lock its owner out.
    """

    def __init__(
        self,
        services: Services,
        username: str,
        found: SignIn | None,
        client: ClientContext,
        device: str | None,
    ) -> None:
        """Judge the device; count nothing yet."""
        self._services = services
        self._found = found
        self._user_id = found.user.user_id if found is not None else None
        self._network = _UNKNOWN_NETWORK if client.ip is None else network_of(client.ip)
        site = None if client.ip is None else site_of(client.ip)
        self.from_known_device = self._user_id is not None and is_known_device(
            device, self._user_id, services.device_key
        )
        if self.from_known_device and client.device_key is not None:
            self._limits: list[LimitKey] = [
                (LimitName.LOGIN_PER_KNOWN_DEVICE, (username, client.device_key))
            ]
        else:
            self._limits = [
                (LimitName.LOGIN_PER_NETWORK, (self._network,)),
                (LimitName.LOGIN_PER_ACCOUNT_AND_NETWORK, (username, self._network)),
                (LimitName.LOGIN_PER_ACCOUNT, (username,)),
            ]
            if site is not None:
                self._limits.append((LimitName.LOGIN_PER_SITE, (site,)))

    async def verify(self, password: str) -> SignIn:
        """Whose password it is.

        Where nobody is found, or their password is not kept here, it takes as long and is answered
        alike. A hash of older parameters is renewed.

        Raises:
            ProblemError: It is wrong, or its user disabled: 401. Or failures have used a limit up:
                429 with the time to wait, before any hashing.
        """
        services, found = self._services, self._found
        async with self._let_in():
            fits = await services.passwords.verify(found.password_hash if found else None, password)
            if not fits or found is None or found.user.disabled_at is not None:
                await self.failed()
                raise ProblemError(ProblemKind.INVALID_CREDENTIALS)
        await _rehash_if_old(services, found, password)
        return found

    @asynccontextmanager
    async def _let_in(self) -> AsyncIterator[None]:
        """What is under way within counts like a failure until it is over."""
        services = self._services
        try:
            async with services.tries.let_in(services.limits, self._limits):
                yield
        except LimitReachedError as error:
            services.telemetry.rate_limited(error.name.value)
            services.failures.note(self._network, self._user_id, limited=True)
            raise rate_limited(error.wait) from error

    async def failed(self) -> None:
        """Count a failure."""
        for name, key in self._limits:
            await self._services.limits.hit(name, *key)
        self._services.failures.note(self._network, self._user_id, limited=False)
        self._services.telemetry.login("refused")


async def _rehash_if_old(services: Services, found: SignIn, password: str) -> None:
    """Put a hash with today's parameters in the place of an older one, now that it is known."""
    stored = found.password_hash
    if stored is not None and services.passwords.needs_rehash(stored):
        fresh = await services.passwords.hash(password)
        await services.users.rehash_password(found.user.user_id, stored, fresh)
