"""The published risk score, written down from its formula: obvious, slow, over whole histories.

Freeman et al. 2016 and Wiefling et al. 2022. Nothing of the product is used but the names of the
features; ``test_risk_score`` compares the two.
"""

from collections.abc import Sequence

ADDRESS = (0.6, 0.3, 0.1)
AGENT = (0.53867, 0.26805, 0.18818, 0.00511)
Chains = tuple[tuple[str, ...], tuple[str, ...]]
"""What one sign-in showed: of address and of user agent, from the special to the common."""


class PublishedScore:
    """Every sign-in of everybody, kept."""

    def __init__(self) -> None:
        self.history: list[tuple[str, Chains]] = []

    def learn(self, user: str, shown: Chains) -> None:
        self.history.append((user, shown))

    def score(self, user: str, shown: Chains) -> float | None:
        everybody = [chains for _, chains in self.history]
        own = [chains for whose, chains in self.history if whose == user]
        if not own:
            return None
        score = 1.0
        for feature, weights in enumerate((ADDRESS, AGENT)):
            values = shown[feature]
            all_values = [chains[feature] for chains in everybody]
            own_values = [chains[feature] for chains in own]
            g = self._global(values, all_values, weights)
            l = self._own(values, own_values, weights)  # noqa: E741 - the paper's letter
            if l == 0:
                l = g / 4  # noqa: E741
            score *= g / l
        users = len({whose for whose, _ in self.history})
        return score * (1 / users) / (len(own) / len(everybody))

    def _own(
        self, values: Sequence[str], history: Sequence[Sequence[str]], weights: Sequence[float]
    ) -> float:
        n = len(history)
        return sum(
            weight * sum(past[level] == values[level] for past in history) / n
            for level, weight in enumerate(weights)
        )

    def _global(
        self, values: Sequence[str], history: Sequence[Sequence[str]], weights: Sequence[float]
    ) -> float:
        n = len(history)
        siblings = {past[0] for past in history if past[1] == values[1]}
        unseen = len(siblings) + 1
        c = sum(past[0] == values[0] for past in history)
        p = c / n * (1 - unseen / (n + unseen)) if c else 1 / (n + unseen)
        total = weights[0] * p
        for level, weight in list(enumerate(weights))[1:]:
            total += weight * sum(past[level] == values[level] for past in history) / n
        return total


def rank_agreement(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's rank correlation; ties share the mean of their ranks."""
    a, b = _ranks(one), _ranks(other)
    mean = (len(a) + 1) / 2
    covariance = sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True))
    spread_a = sum((x - mean) ** 2 for x in a)
    spread_b = sum((y - mean) ** 2 for y in b)
    return float(covariance / (spread_a * spread_b) ** 0.5)


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for index in order[start:end]:
            ranks[index] = (start + end + 1) / 2
        start = end
    return ranks
