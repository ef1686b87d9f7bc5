"""The risk score of a sign-in: how much likelier it is an attacker's than the user's own.

Freeman et al., "Who are you? A statistical approach to measuring user authenticity", NDSS 2016, in
the form of Wiefling et al., "Pump up password security!", TOPS 2022:

    S = product over features f of (g_f / l_f)  ·  (1 / users) / (own sign-ins / all sign-ins)

``g_f`` says how common what was seen is among all users, ``l_f`` among the user's own sign-ins.
Both add up the levels of a hierarchy, weighted, so that another address of the same carrier is less
of a surprise than one abroad. Every count is at hand, so the cost does not grow with the history.
"""

from collections.abc import Sequence
from typing import NamedTuple

from detector.features import FeatureCounts, FeatureState, UserFeatures

ADDRESS_WEIGHTS = (0.6, 0.3, 0.1)
"""Address, autonomous system, country."""
AGENT_WEIGHTS = (0.53867, 0.26805, 0.18818, 0.00511)
"""User agent, browser and version, operating system and version, class of device."""
_NEVER_SHOWN = 4.0
"""What a user never showed on any level counts as four times likelier for an attacker."""


class RiskScore(NamedTuple):
    """The factors of a score, each a ratio above 0: above 1 it speaks for an attacker.

    Attributes:
        address: How unusual the address is for the user, among everybody's.
        agent: How unusual the user agent is.
        activity: How rarely the user signs in, compared with others.
    """

    address: float
    agent: float
    activity: float

    @property
    def ratio(self) -> float:
        """S: a probability only in proportion, so it ranks."""
        return self.address * self.agent * self.activity


def risk_score(counts: FeatureCounts, own: UserFeatures) -> RiskScore | None:
    """How much likelier an attacker is than the user.

    Args:
        counts: Of all users' sign-ins before this one.
        own: Of the user's.

    Returns:
        None for a first sign-in, of which nothing can be told.
    """
    if not own.sign_ins or not counts.total or not counts.users:
        return None
    shown = own.counts(counts.features)
    levels = len(ADDRESS_WEIGHTS)
    return RiskScore(
        _ratio(ADDRESS_WEIGHTS, counts.address, shown[:levels], counts.total, own.sign_ins),
        _ratio(AGENT_WEIGHTS, counts.agent, shown[levels:], counts.total, own.sign_ins),
        counts.total / (counts.users * own.sign_ins),
    )


def _ratio(
    weights: Sequence[float],
    everybody: Sequence[FeatureState],
    shown: Sequence[int],
    total: int,
    sign_ins: int,
) -> float:
    own = 0.0
    for weight, count in zip(weights, shown, strict=True):
        own += weight * count
    if not own:
        return _NEVER_SHOWN
    special, parent = everybody[0], everybody[1]
    # c/N · (1 − M/(N+M)), and 1/(N+M) for what was never seen, come to one fraction. M is the mass
    # left for what is still unseen: as many values as the level above has shown, and one.
    common = weights[0] * max(special.count, 1) / (total + parent.children + 1)
    for weight, state in zip(weights[1:], everybody[1:], strict=True):
        common += weight * state.count / total
    return common * sign_ins / own
