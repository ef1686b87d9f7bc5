"""How well a score tells takeovers from honest sign-ins, with memory that millions do not fill.

Scores are counted by their rounded values. Among equals chance decides: the expected value is
taken.
"""

from collections import Counter
from random import Random

import msgspec

_ROUNDS = 1_000
_LOW, _HIGH = 0.025, 0.975


class Recall(msgspec.Struct, frozen=True):
    """Recall at one budget.

    Attributes:
        budget: Share of sign-ins that are challenged.
        value: Share of takeovers that are among them.
        low: Lower end of the 95 % bootstrap interval.
        high: Upper end.
    """

    budget: float
    value: float
    low: float
    high: float


class Ranking:
    """Counts scores of sign-ins, and of the takeovers among them."""

    def __init__(self) -> None:
        """Start with none."""
        self._all: Counter[float] = Counter()
        self._takeovers: Counter[float] = Counter()

    def add(self, score: float, *, is_takeover: bool) -> None:
        """Count one; the higher its score, the sooner it is challenged."""
        self._all[score] += 1
        if is_takeover:
            self._takeovers[score] += 1

    @property
    def sign_ins(self) -> int:
        """How many were counted."""
        return self._all.total()

    @property
    def takeovers(self) -> int:
        """How many of them were takeovers."""
        return self._takeovers.total()

    def recall(self, budget: float) -> Recall | None:
        """Recall where that share of sign-ins is challenged; None without takeovers."""
        if not self._takeovers:
            return None
        left = budget * self.sign_ins
        challenged: dict[float, float] = {}
        for score in sorted(self._all, reverse=True):
            challenged[score] = min(1.0, left / self._all[score])
            left -= self._all[score]
            if left <= 0:
                break
        chances = [challenged.get(score, 0.0) for score in self._takeovers.elements()]
        low, high = _interval(chances)
        return Recall(budget, sum(chances) / len(chances), low, high)

    def auc(self) -> float | None:
        """How often a takeover scores higher than an honest sign-in (ROC-AUC; equals count half).

        None where one of the two is missing.
        """
        honest = self._all - self._takeovers
        if not self._takeovers or not honest:
            return None
        below, wins = 0, 0.0
        for score in sorted(self._all):
            wins += self._takeovers[score] * (below + honest[score] / 2)
            below += honest[score]
        return wins / (self._takeovers.total() * below)

    def threshold(self, recall: float) -> float | None:
        """The score from which on so many takeovers are challenged; None without takeovers."""
        caught, wanted = 0, recall * self.takeovers
        for score in sorted(self._takeovers, reverse=True):
            caught += self._takeovers[score]
            if caught >= wanted:
                return score
        return None

    def challenged(self, threshold: float) -> float | None:
        """The share of sign-ins with at least that score; None where there are none."""
        if not self._all:
            return None
        return sum(n for score, n in self._all.items() if score >= threshold) / self.sign_ins


def _interval(chances: list[float]) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean; always the same for the same values."""
    dice = Random(len(chances))  # noqa: S311 - statistics, and the same figures each time
    count = len(chances)
    means = sorted(sum(dice.choices(chances, k=count)) / count for _ in range(_ROUNDS))
    return means[int(_LOW * _ROUNDS)], means[int(_HIGH * _ROUNDS) - 1]
