from itertools import pairwise
from random import Random
from time import perf_counter

import pytest

from detector.features import (
    NO_FEATURES,
    FeatureCounts,
    Features,
    FeatureState,
    UserFeatures,
    with_features,
)
from detector.risk_score import risk_score
from tests.unit.detector.published_score import Chains, PublishedScore, rank_agreement

HOME = Features(("ip:1", "asn:1", "country:NO"), ("ua:1", "browser:1", "os:1", "form:mobile"))
NEW_ADDRESS = Features(
    ("ip:2", "asn:1", "country:NO"), ("ua:1", "browser:1", "os:1", "form:mobile")
)
ABROAD = Features(("ip:9", "asn:9", "country:JP"), ("ua:1", "browser:1", "os:1", "form:mobile"))


class Counters:
    """The product's counters, kept as the crowd keeps them."""

    def __init__(self) -> None:
        self.states: dict[str, FeatureState] = {}
        self.users: dict[str, UserFeatures] = {}
        self.total = 0

    def counts(self, features: Features) -> FeatureCounts:
        return FeatureCounts(
            features,
            self.total,
            len(self.users),
            tuple(self.states.get(key, FeatureState()) for key in features.address),
            tuple(self.states.get(key, FeatureState()) for key in features.agent),
        )

    def learn(self, user: str, features: Features) -> None:
        for chain in (features.address, features.agent):
            is_new = chain[0] not in self.states
            for level, key in enumerate(chain):
                state = self.states.get(key, FeatureState())
                children = state.children + (level == 1 and is_new)
                self.states[key] = FeatureState(state.count + 1, children)
        self.users[user] = with_features(self.users.get(user, NO_FEATURES), features)
        self.total += 1

    def score(self, user: str, features: Features) -> float | None:
        own = self.users.get(user, NO_FEATURES)
        score = risk_score(self.counts(features), own)
        return None if score is None else score.ratio


def test_a_first_sign_in_has_no_score() -> None:
    counters = Counters()
    counters.learn("somebody", HOME)

    assert counters.score("ada", HOME) is None


def test_the_score_is_what_the_formula_says() -> None:
    counters, published = Counters(), PublishedScore()
    for user in ("ada", "ada", "bob", "cyd"):
        counters.learn(user, HOME)
        published.learn(user, chains_of(HOME))

    for shown in (HOME, NEW_ADDRESS, ABROAD):
        assert counters.score("ada", shown) == pytest.approx(
            published.score("ada", chains_of(shown))
        )


def test_what_is_farther_from_habit_scores_higher() -> None:
    counters = Counters()
    for user in ("ada", "ada", "bob"):
        counters.learn(user, HOME)
    counters.learn("emi", ABROAD)

    scores = [counters.score("ada", shown) or 0.0 for shown in (HOME, NEW_ADDRESS, ABROAD)]

    assert all(lower < higher for lower, higher in pairwise(scores))


def test_what_a_user_never_showed_counts_fourfold() -> None:
    counters = Counters()
    counters.learn("ada", HOME)
    counters.learn("emi", ABROAD)

    score = risk_score(counters.counts(ABROAD), counters.users["ada"])

    assert score is not None
    assert score.address == 4


def test_ranks_as_the_published_formula_does_over_20_000_sign_ins() -> None:
    dice = Random(20_000)
    history = sign_ins(dice, users=2_200, count=20_000)
    sampled = {number for number in range(len(history)) if dice.random() < 0.012}
    counters, published = Counters(), PublishedScore()
    ours, theirs = [], []

    for number, (user, shown) in enumerate(history):
        if number in sampled:
            reference = published.score(user, chains_of(shown))
            score = counters.score(user, shown)
            assert (score is None) == (reference is None)
            if score is not None and reference is not None:
                ours.append(score)
                theirs.append(reference)
        counters.learn(user, shown)
        published.learn(user, chains_of(shown))

    assert len(ours) > 180
    assert rank_agreement(ours, theirs) >= 0.999


def test_a_score_takes_less_than_25_microseconds_at_any_length_of_history() -> None:
    counters = Counters()
    for user, shown in sign_ins(Random(5), users=50, count=20_000):
        counters.learn(user, shown)
    counts, own = counters.counts(HOME), counters.users["u7"]

    fastest = min(timed(lambda: risk_score(counts, own)) for _ in range(20))

    assert fastest < 25e-6


def timed(call: object) -> float:
    assert callable(call)
    began = perf_counter()
    for _ in range(200):
        call()
    return (perf_counter() - began) / 200


def chains_of(features: Features) -> Chains:
    return features.address, features.agent


def sign_ins(dice: Random, users: int, count: int) -> list[tuple[str, Features]]:
    """Made-up sign-ins: people with a carrier, a country, a device or two, and journeys."""
    people = [Person(dice) for _ in range(users)]
    weights = [1 / (rank + 5) for rank in range(users)]
    chosen = dice.choices(range(users), weights, k=count)
    return [(f"u{index}", people[index].shown(dice)) for index in chosen]


class Person:
    def __init__(self, dice: Random) -> None:
        self.country = min(int(dice.expovariate(0.3)), 20)
        self.asn = self.country * 100 + min(int(dice.expovariate(0.5)), 9)
        self.ip = f"{self.asn}.{dice.randrange(400)}"
        self.wanders = dice.random() < 0.3
        self.agents = [agent(dice) for _ in range(dice.choice((1, 1, 2, 3)))]
        self.updates = 0

    def shown(self, dice: Random) -> Features:
        asn, country, ip = self.asn, self.country, self.ip
        if dice.random() < 0.05:
            country = dice.randrange(20)
            asn = country * 100 + dice.randrange(9)
        if self.wanders or asn != self.asn:
            ip = f"{asn}.{dice.randrange(400)}"
        self.updates += dice.random() < 0.05
        system, browser, form = dice.choice(self.agents)
        version = 140 + self.updates
        return Features(
            (f"ip:{ip}", f"asn:{asn}", f"country:{country}"),
            (
                f"ua:{browser}/{version} {system}",
                f"browser:{browser} {version}",
                f"os:{system}",
                f"form:{form}",
            ),
        )


def agent(dice: Random) -> tuple[str, str, str]:
    form = dice.choices(("mobile", "desktop", "tablet"), (70, 26, 3))[0]
    system = {
        "mobile": ("Android 10", "iOS 26", "iOS 18"),
        "desktop": ("Windows 10", "macOS 10.15", "Linux"),
        "tablet": ("iOS 26", "Android 10"),
    }[form]
    return dice.choice(system), dice.choice(("Chrome", "Safari", "Firefox", "Edge")), form
