"""The scorer, on files that are made by hand."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from detector.world.attacks import Kind
from detector.world.caught import AttackRow
from detector.world.playback import MismatchError
from detector.world.recall import BUDGETS, RecallRow
from detector.world.scoring import Scores, score

START = datetime.fromisoformat("2026-01-05T08:00:00Z")
REPLAY = "attack:replay-asn-device#1"
OSLO = {"country": "NO", "asn": 2119}
LAGOS = {"country": "NG", "asn": 29465}


class Tape:
    """A request file and its answers, line by line."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.answers: list[bytes] = []

    def add(
        self,
        minute: float,
        do: str,
        label: str,
        *,
        result: str = "ok",
        findings: Sequence[dict[str, Any]] = (),
        **members: Any,  # noqa: ANN401 - whatever a line may hold
    ) -> "Tape":
        at = (START + timedelta(minutes=minute)).isoformat()
        self.lines.append(msgspec.json.encode({"at": at, "do": do, "label": label, **members}))
        answer = {"line": len(self.lines), "result": result, "findings": findings}
        self.answers.append(msgspec.json.encode(answer))
        return self

    def scores(self) -> Scores:
        return score(lambda: self.lines, self.answers)


def found(
    rule: str = "some_rule",
    response: str = "alert",
    score: float = 1.0,
    user: str | None = None,
) -> dict[str, Any]:
    return {
        "rule": rule,
        "severity": "high",
        "response": response,
        "score": score,
        "user": user,
    }


def stolen(tape: Tape) -> AttackRow:
    (row,) = tape.scores().attacks
    return row


def test_a_thief_who_is_found_at_the_second_request_is_caught_in_time() -> None:
    tape = Tape().add(0, "login", "honest", user="u1", family="f1")
    tape.add(60, "refresh", REPLAY, family="f1", generation=1)
    tape.add(70, "refresh", REPLAY, family="f1", generation=2, findings=[found()])

    row = stolen(tape)

    assert (row.kind, row.attacks, row.in_time, row.ever) == (Kind.REPLAY_ASN_DEVICE, 1, 1, 1)
    assert (row.median_requests, row.median_seconds) == (2, 600)


def test_a_thief_who_is_found_at_the_third_request_is_caught_late() -> None:
    tape = Tape().add(0, "login", "honest", user="u1", family="f1")
    tape.add(60, "refresh", REPLAY, family="f1")
    tape.add(70, "refresh", REPLAY, family="f1")
    tape.add(80, "refresh", REPLAY, family="f1", findings=[found()])

    row = stolen(tape)

    assert (row.in_time, row.ever) == (0, 1)


def test_a_finding_that_is_only_recorded_catches_nobody() -> None:
    tape = Tape().add(0, "login", "honest", user="u1", family="f1")
    tape.add(60, "refresh", REPLAY, family="f1", findings=[found(response="record")])

    row = stolen(tape)

    assert (row.attacks, row.ever) == (1, 0)
    assert row.median_seconds is None


def test_the_owner_who_comes_back_brings_a_theft_to_light() -> None:
    tape = Tape().add(0, "login", "honest", user="u1", family="f1")
    tape.add(60, "refresh", "attack:slow-theft:owner-away#1", family="f1")
    tape.add(600, "refresh", "honest", family="f1", result="reuse")

    scores = tape.scores()

    assert (scores.attacks[0].in_time, scores.attacks[0].ever) == (1, 1)
    assert scores.false_alarms[0].revoked == 0


def test_a_burst_is_in_time_within_a_minute_of_its_twenty_fifth_try() -> None:
    early, late = Tape(), Tape()
    for tape, extra in ((early, 4), (late, 40)):
        for count in range(25 + extra):
            findings = [found()] if count == 24 + extra else []
            tape.add(
                count / 12,
                "login_failed",
                "attack:credential-stuffing#3",
                user=f"u{count}",
                findings=findings,
            )

    assert stolen(early).in_time == 1
    assert (stolen(late).in_time, stolen(late).ever) == (0, 1)


def test_victims_of_one_thief_count_one_by_one() -> None:
    tape = Tape()
    for number in (1, 2, 3):
        tape.add(number, "login", "honest", user=f"u{number}", family=f"f{number}")
    for number in (1, 2, 3):
        findings = [found()] if number > 1 else []
        tape.add(
            60 + number,
            "refresh",
            "attack:many-victims-tokens#9",
            family=f"f{number}",
            findings=findings,
        )

    row = stolen(tape)

    assert (row.attacks, row.ever) == (3, 2)


def test_a_revoked_honest_family_is_a_wrongful_revocation_by_its_trap() -> None:
    tape = Tape().add(0, "login", "honest:holiday", user="u1", family="f1")
    tape.add(9, "refresh", "honest:holiday", family="f1", findings=[found("r", "revoke_family")])
    tape.add(19, "refresh", "honest:holiday", family="f1", result="revoked")
    tape.add(20, "login", "honest", user="u2", family="f2")

    everybody, plain, holiday = tape.scores().false_alarms

    assert (everybody.families, everybody.revoked) == (2, 1)
    assert everybody.revoked_per_10_000 == 5_000
    assert (plain.revoked, holiday.revoked) == (0, 1)
    assert holiday.rules == {"r": 1}


def test_repeats_of_an_alert_within_an_hour_are_one_alert() -> None:
    tape = Tape().add(0, "login", "honest", user="u1", family="f1", findings=[found(user="u1")])
    tape.add(30, "refresh", "honest", family="f1", findings=[found(user="u1")])
    tape.add(95, "refresh", "honest", family="f1", findings=[found(user="u1")])

    everybody = tape.scores().false_alarms[0]

    assert everybody.alerts == 2
    assert everybody.alerts_per_1_000_a_day == 2_000
    assert (everybody.sign_ins, everybody.sign_in_alerts) == (1, 1)


def test_an_honest_slip_during_a_burst_is_part_of_the_alert_about_it() -> None:
    tape = Tape().add(0, "login_failed", "attack:password-spraying#1", findings=[found("spray")])
    tape.add(50, "login_failed", "honest", user="u1", findings=[found("spray")])
    tape.add(100, "login_failed", "honest", user="u2", findings=[found("spray")])
    tape.add(200, "login_failed", "honest", user="u3", findings=[found("spray")])

    assert tape.scores().false_alarms[0].alerts == 1


def test_what_befalls_a_victims_other_families_afterwards_is_counted_apart() -> None:
    tape = Tape().add(0, "login", "honest", user="u1", family="f1")
    tape.add(1, "login", "honest", user="u1", family="f2")
    tape.add(60, "refresh", REPLAY, family="f1", findings=[found(response="revoke_all")])
    tape.add(70, "refresh", "honest", family="f2", result="revoked")

    scores = tape.scores()

    assert scores.false_alarms[0].revoked == 0
    assert scores.collateral.revoked == 1


def test_verdicts_are_nobodys_request() -> None:
    tape = Tape().add(0, "login", "honest", user="u1", family="f1")
    tape.add(60, "verdict", REPLAY, family="f1", verdict="true_positive", findings=[found()])

    scores = tape.scores()

    assert scores.attacks == []
    assert scores.false_alarms[0].alerts == 0


def many_sign_ins(attack_score: float, place: dict[str, Any]) -> Tape:
    """1,000 honest sign-ins of 500 users; the scores of ten are 5. One theft."""
    tape = Tape()
    for count in range(1_000):
        findings = [found(response="record", score=5.0)] if count % 100 == 0 else []
        user = f"u{count % 500}"
        tape.add(
            count, "login", "honest", user=user, family=f"f{count}", geo=OSLO, findings=findings
        )
    findings = [found(score=attack_score)]
    return tape.add(
        2_000,
        "login",
        "attack:password-theft:other-country#1",
        user="u7",
        family="x",
        geo=place,
        findings=findings,
    )


def recall_at(tape: Tape, budget: float) -> RecallRow:
    (row,) = [
        each
        for each in tape.scores().recall
        if each.budget == budget and each.kind is Kind.PASSWORD_THEFT
    ]
    return row


def test_a_stolen_sign_in_above_all_honest_ones_is_recalled_at_every_budget() -> None:
    tape = many_sign_ins(9.0, LAGOS)

    assert [recall_at(tape, budget).recall for budget in BUDGETS] == [1.0, 1.0, 1.0, 1.0]
    assert recall_at(tape, 0.001).baseline == 1.0


def test_among_equal_scores_chance_decides() -> None:
    tape = many_sign_ins(5.0, OSLO)

    assert recall_at(tape, 0.001).recall == pytest.approx(0.1)
    assert recall_at(tape, 0.005).recall == pytest.approx(0.5)
    assert recall_at(tape, 0.01).recall == 1.0


def test_a_known_country_and_asn_is_nothing_to_the_baseline() -> None:
    tape = many_sign_ins(9.0, OSLO)

    assert recall_at(tape, 0.01).baseline == pytest.approx(0.03)


def test_the_interval_holds_the_recall() -> None:
    row = recall_at(many_sign_ins(5.0, OSLO), 0.005)

    assert row.low <= row.recall <= row.high


def test_a_missing_answer_is_named() -> None:
    tape = Tape().add(0, "login", "honest", user="u1", family="f1")
    tape.answers.clear()

    with pytest.raises(MismatchError, match="line 1 of the world has no answer"):
        tape.scores()


def test_an_answer_about_another_line_is_named() -> None:
    tape = Tape().add(0, "login", "honest", user="u1", family="f1")
    tape.answers[0] = b'{"line": 2, "result": "ok", "findings": []}'

    with pytest.raises(MismatchError, match="answer 1 is about line 2"):
        tape.scores()


def test_an_unknown_attack_is_named() -> None:
    tape = Tape().add(0, "login", "attack:witchcraft#1", user="u1", family="f1")

    with pytest.raises(MismatchError, match="witchcraft"):
        tape.scores()
