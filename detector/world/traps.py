"""The traps that honest users set for careless rules, and how common each is."""

from enum import StrEnum
from random import Random


class Trap(StrEnum):
    """What an honest user does that looks like an attack to a careless rule."""

    NONE = "none"
    CARRIER_NAT = "carrier-nat"
    IPV6_PRIVACY = "ipv6-privacy"
    DUAL_STACK = "dual-stack"
    AUTO_UPDATE = "auto-update"
    VPN_ALWAYS = "vpn-always"
    VPN_SOMETIMES = "vpn-sometimes"
    RELAY = "relay"
    COMMUTE = "commute"
    HOLIDAY = "holiday"
    CONFERENCE = "conference"
    CORPORATE_PROXY = "corporate-proxy"
    DOUBLE_TAB = "double-tab"
    LOST_RESPONSE = "lost-response"
    NEW_PHONE = "new-phone"
    MOVED = "moved"
    SAME_INSTANT = "same-instant"
    TRAVEL = "travel"
    DORMANT_RETURN = "dormant-return"

    @property
    def label(self) -> str:
        """The label of their lines."""
        return "honest" if self is Trap.NONE else f"honest:{self.value}"


_SHARES = {
    Trap.CARRIER_NAT: 0.06,
    Trap.IPV6_PRIVACY: 0.05,
    Trap.DUAL_STACK: 0.05,
    Trap.AUTO_UPDATE: 0.04,
    Trap.VPN_ALWAYS: 0.02,
    Trap.VPN_SOMETIMES: 0.03,
    Trap.RELAY: 0.03,
    Trap.COMMUTE: 0.15,
    Trap.HOLIDAY: 0.02,
    Trap.CONFERENCE: 0.01,
    Trap.CORPORATE_PROXY: 0.025,
    Trap.DOUBLE_TAB: 0.05,
    Trap.LOST_RESPONSE: 0.05,
    Trap.NEW_PHONE: 0.02,
    Trap.MOVED: 0.01,
    Trap.SAME_INSTANT: 0.01,
    Trap.TRAVEL: 0.03,
    Trap.DORMANT_RETURN: 0.005,
}
_CORPORATE_CAP = 500


def allotted_traps(users: int, dice: Random) -> list[Trap]:
    """A trap for each user: shares of them all, at least one of each where there is room."""
    traps = []
    for trap, share in _SHARES.items():
        count = max(1, round(users * share))
        traps += [trap] * (min(count, _CORPORATE_CAP) if trap is Trap.CORPORATE_PROXY else count)
    traps = traps[:users] + [Trap.NONE] * (users - len(traps))
    dice.shuffle(traps)
    return traps
