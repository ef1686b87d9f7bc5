"""Rankings: recall at a budget, ROC-AUC, and memory that does not grow with what is counted."""

from random import Random

import pytest

from detector.ranking import Ranking


def ranking(honest: list[float], takeovers: list[float]) -> Ranking:
    made = Ranking()
    for score in honest:
        made.add(score, is_takeover=False)
    for score in takeovers:
        made.add(score, is_takeover=True)
    return made


def test_the_highest_are_challenged_first() -> None:
    made = ranking([float(score) for score in range(98)], [97.5, 3.0])

    recall = made.recall(0.02)

    assert recall is not None
    assert recall.value == 0.5
    assert (recall.low, recall.high) == (0.0, 1.0)


def test_among_equals_chance_decides() -> None:
    made = ranking([1.0] * 98, [1.0, 1.0])

    recall = made.recall(0.25)

    assert recall is not None
    assert recall.value == recall.low == recall.high == 0.25


def test_a_budget_of_everything_catches_all() -> None:
    recall = ranking([5.0, 6.0], [1.0]).recall(1.0)

    assert recall is not None
    assert recall.value == 1.0


@pytest.mark.parametrize(
    ("honest", "takeovers", "auc"),
    [([1.0, 2.0], [3.0], 1.0), ([3.0], [1.0, 2.0], 0.0), ([1.0], [1.0], 0.5), ([1, 3], [2], 0.5)],
)
def test_auc_is_how_often_a_takeover_scores_higher(
    honest: list[float], takeovers: list[float], auc: float
) -> None:
    assert ranking(honest, takeovers).auc() == auc


def test_auc_agrees_with_counting_every_pair() -> None:
    dice = Random(7)
    honest = [float(dice.randrange(20)) for _ in range(300)]
    takeovers = [float(dice.randrange(5, 25)) for _ in range(40)]

    pairs = [(t > h) + (t == h) / 2 for t in takeovers for h in honest]

    assert ranking(honest, takeovers).auc() == pytest.approx(sum(pairs) / len(pairs))


def test_without_takeovers_nothing_can_be_told() -> None:
    made = ranking([1.0, 2.0], [])

    assert (made.recall(0.5), made.auc(), made.threshold(0.5)) == (None, None, None)
    assert Ranking().challenged(1.0) is None
    assert ranking([], [1.0]).auc() is None


def test_a_threshold_catches_that_share_and_costs_its_challenges() -> None:
    made = ranking([1.0, 2.0, 3.0, 4.0], [2.5, 3.5, 4.5, 0.5])

    threshold = made.threshold(0.75)

    assert threshold == 2.5
    assert made.challenged(2.5) == 5 / 8
