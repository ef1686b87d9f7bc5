"""The circuit breaker: a rule that would end too many families alerts instead, for a while."""

from dataclasses import dataclass

PERIOD_S = 3600.0
"""What a rule ended within the last hour is counted."""
REST_S = 3600.0
"""How long a rule that went too far only alerts."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """How many families one rule may end within an hour.

    Attributes:
        share: Of the active families; 1 % (detection.md).
        always: So many are allowed however few are active: a small service has real thefts too.
    """

    share: float = 0.01
    always: int = 20

    def allows(self, ended: int, more: int, active: int) -> bool:
        """Whether a rule may end ``more`` families.

        Args:
            ended: How many it has ended within the last hour.
            more: How many it is about to end.
            active: Families that are active.
        """
        return ended + more <= max(self.always, self.share * active)
