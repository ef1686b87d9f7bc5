"""What the crowd says of one sign-in, for the user rules that judge it."""

import msgspec

from detector.crowd_states import AccountState, SourceState, SprayState
from detector.features import FeatureCounts


class CrowdContext(msgspec.Struct, frozen=True):
    """What the crowd's counts say of one sign-in.

    Attributes:
        counts: Of its features, for the risk score.
        account: Failures on the account before it.
        source: Failures from its network before it.
        spray: Failures from everywhere before it.
        sign_ins: Sign-ins of all users in the hour that these are counted over.
    """

    counts: FeatureCounts
    account: AccountState
    source: SourceState
    spray: SprayState
    sign_ins: int = 0
