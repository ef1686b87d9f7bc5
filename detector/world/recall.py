"""Recall of stolen sign-ins at a budget of challenges, beside "new country or new ASN".

Sign-ins are ranked by the highest score among their findings. A budget of 1 % means: so many
challenges as make 1 % of the honest sign-ins. (Of all sign-ins would be the same where attacks are
rare; in a world made for testing they are not.) Among equals, chance decides: the expected value
is taken.
"""

from bisect import bisect_left, bisect_right
from random import Random

import msgspec

from detector.world.atlas import atlas
from detector.world.attacks import Kind
from detector.world.playback import Answer, AttackId, Request

BUDGETS = (0.001, 0.005, 0.01, 0.02)
BASELINE_FACTOR = 3
"""The baseline is given so many times the challenges."""
_ROUNDS = 1_000
_LOW, _HIGH = 0.025, 0.975
_NEW_COUNTRY, _NEW_ASN = 2.0, 1.0


class RecallRow(msgspec.Struct, frozen=True):
    """Recall at one budget for the sign-ins of one kind of attack.

    Attributes:
        kind: The kind; None for all of them.
        budget: Share of honest sign-ins that are challenged.
        sign_ins: Sign-ins of attackers.
        recall: Share of these that are challenged.
        low: Lower end of the 95 % bootstrap interval.
        high: Upper end.
        baseline: Recall of the baseline at three times the budget.
    """

    kind: Kind | None
    budget: float
    sign_ins: int
    recall: float
    low: float
    high: float
    baseline: float


class _Scored(msgspec.Struct, frozen=True):
    score: float
    baseline: float


class RecallTally:
    """Watches sign-ins in a playback."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._honest: list[_Scored] = []
        self._attacks: dict[Kind, list[_Scored]] = {}
        self._known: dict[str, set[int | str | None]] = {}

    def watch(
        self, request: Request, answer: Answer, attack: AttackId | None, *, counts: bool
    ) -> None:
        """Take in a sign-in.

        Args:
            request: The sign-in.
            answer: What the player said of it.
            attack: Whose it is; None for an honest one.
            counts: Whether it is to be judged, or only makes history.
        """
        novelty = self._novelty(request)
        score = max((each.score or 0.0 for each in answer.findings), default=0.0)
        scored = _Scored(score, novelty)
        if attack is not None:
            self._attacks.setdefault(attack.kind, []).append(scored)
        elif counts:
            self._honest.append(scored)

    def rows(self) -> list[RecallRow]:
        """For all kinds together, then for each: one row a budget."""
        by_kind: dict[Kind | None, list[_Scored]] = {}
        everything = [each for kind in self._attacks.values() for each in kind]
        if everything:
            by_kind[None] = everything
        by_kind.update((kind, self._attacks[kind]) for kind in Kind if kind in self._attacks)
        scores = sorted(each.score for each in self._honest)
        novelties = sorted(each.baseline for each in self._honest)
        return [
            _row(kind, budget, sign_ins, scores, novelties)
            for kind, sign_ins in by_kind.items()
            for budget in BUDGETS
        ]

    def _novelty(self, request: Request) -> float:
        """2 for a new country, 1 for a new ASN, 0 for neither or a first sign-in."""
        carrier = atlas().carrier_of(request.ip) if request.ip else None
        asn = request.geo.asn if request.geo else carrier.asn if carrier else None
        country = request.geo.country if request.geo else None
        known = self._known.get(request.user)
        if known is None:
            self._known[request.user] = {asn, country}
            return 0.0
        novelty = _NEW_COUNTRY if country not in known else _NEW_ASN if asn not in known else 0.0
        known |= {asn, country}
        return novelty


def _row(
    kind: Kind | None,
    budget: float,
    sign_ins: list[_Scored],
    scores: list[float],
    novelties: list[float],
) -> RecallRow:
    chances = [_challenged(each.score, scores, budget) for each in sign_ins]
    baseline = [
        _challenged(each.baseline, novelties, budget * BASELINE_FACTOR) for each in sign_ins
    ]
    low, high = _interval(chances)
    return RecallRow(
        kind=kind,
        budget=budget,
        sign_ins=len(sign_ins),
        recall=sum(chances) / len(chances),
        low=low,
        high=high,
        baseline=sum(baseline) / len(baseline),
    )


def _challenged(score: float, honest: list[float], budget: float) -> float:
    """How likely a sign-in of that score is among those challenged. ``honest`` ascends."""
    allowed = budget * len(honest)
    above = len(honest) - bisect_right(honest, score)
    equal = len(honest) - above - bisect_left(honest, score)
    if above + equal <= allowed:
        return 1.0
    return max(0.0, (allowed - above) / equal) if equal else 0.0


def _interval(chances: list[float]) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean; always the same for the same values."""
    dice = Random(len(chances))  # noqa: S311 - statistics, and the same figures each time
    count = len(chances)
    means = sorted(sum(dice.choices(chances, k=count)) / count for _ in range(_ROUNDS))
    return means[int(_LOW * _ROUNDS)], means[int(_HIGH * _ROUNDS) - 1]
