"""Rate limits: who may try what how often before they must wait, and the port that counts."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol


class LimitName(StrEnum):
    """A limit; the comment says what its key is made of."""

    LOGIN_PER_NETWORK = "login_per_network"
    """The source network: slows one that tries many accounts."""
    LOGIN_PER_SITE = "login_per_site"
    """The source's /48, for IPv6 only: one customer may have 65,536 networks to come from."""
    LOGIN_PER_ACCOUNT_AND_NETWORK = "login_per_account_and_network"
    """Account and network: slows guessing at one account without touching its owner elsewhere."""
    LOGIN_PER_ACCOUNT = "login_per_account"
    """The account, for clients without a device cookie that it knows: slows guessing from many
    networks. Its owner's own devices are not counted here, so they are not locked out."""
    LOGIN_PER_KNOWN_DEVICE = "login_per_known_device"
    """Account and device cookie."""
    REFRESH_PER_SESSION = "refresh_per_session"
    """The session: its refreshes, and what else it may write to the log without end."""
    REFRESH_PER_NETWORK = "refresh_per_network"
    """The source network; large, since whole companies share one."""
    PASSWORD_CHANGE_PER_USER = "password_change_per_user"
    """The user: wrong current passwords given in a live session."""


DEFAULT_RULES: Mapping[LimitName, str] = MappingProxyType(
    {
        LimitName.LOGIN_PER_NETWORK: "60/minute",
        LimitName.LOGIN_PER_SITE: "240/minute",
        LimitName.LOGIN_PER_ACCOUNT_AND_NETWORK: "10/5minutes",
        LimitName.LOGIN_PER_ACCOUNT: "100/hour",
        LimitName.LOGIN_PER_KNOWN_DEVICE: "20/5minutes",
        LimitName.REFRESH_PER_SESSION: "120/minute",
        LimitName.REFRESH_PER_NETWORK: "6000/minute",
        LimitName.PASSWORD_CHANGE_PER_USER: "5/5minutes",
    }
)
"""How much of each, in the notation of the ``limits`` library."""


class RateLimiter(Protocol):
    """Counts attempts. A refused attempt is not counted, so trying on does not prolong the wait."""

    async def hit(self, name: LimitName, *key: str) -> int | None:
        """Count one attempt, unless it is over the limit.

        Args:
            name: Which limit.
            key: Whom it is counted for; which parts, ``LimitName`` says.

        Returns:
            None where it is allowed, else the whole seconds to wait (``Retry-After``), at least 1.
        """
        ...

    async def check(self, name: LimitName, *key: str, under_way: int = 0) -> int | None:
        """What ``hit`` would answer now, or after ``under_way`` more of them; counts nothing."""
        ...
