"""What the crowd says of one sign-in, for the user rules that judge it."""

import msgspec

from detector.features import FeatureCounts
from domain.ids import UserId


class CrowdContext(msgspec.Struct, frozen=True):
    """What the crowd's counts say of one sign-in: numbers, since it is stored with every one.

    Attributes:
        counts: Of its features, for the risk score.
        account_failures: On the account within the last hour, from networks not its owner's.
        tried_from_here: Whether some of these came from its network.
        is_home: Whether the account's owner has been signing in from its network.
        source_failures: From its network within the last hour, of people not at home there.
        source_accounts: On how many accounts, a few on each.
        source_users: About how many users have signed in from its network lately.
        is_sprayed_from: Whether its network takes part in a spray that is going on.
        user_id: Who signed in; their erasure takes it along.
    """

    counts: FeatureCounts
    account_failures: int = 0
    tried_from_here: bool = False
    is_home: bool = False
    source_failures: int = 0
    source_accounts: int = 0
    source_users: int = 0
    is_sprayed_from: bool = False
    user_id: UserId | None = None
