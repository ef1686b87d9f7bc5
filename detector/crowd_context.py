"""What the crowd says of one sign-in, for the user rules that judge it."""

import msgspec

from detector.crowd_states import AccountState, SourceState
from detector.features import FeatureCounts


class CrowdContext(msgspec.Struct, frozen=True):
    """What the crowd's counts say of one sign-in.

    Attributes:
        counts: Of its features, for the risk score.
        account: Failures on the account before it.
        source: Failures from its network before it.
    """

    counts: FeatureCounts
    account: AccountState
    source: SourceState
