"""A family spends its whole budget of late retries."""

from detector.findings import Fact, Signal, Subject
from detector.observations import Kind
from detector.rule import Description, Parameters, UserRule
from detector.sighting import Sighting
from detector.suspicions import client_facts, early_refresh, signal_of
from domain.detection import Response, Severity

_SPENT = 40
_IN_A_ROW = 30


def _look(sighting: Sighting, parameters: Parameters) -> Signal | None:
    trace, seen = sighting.trace, sighting.seen
    if trace is None:
        return None
    lately = [at for at in trace.late_retries if seen.second - at < parameters["within_s"]]
    spent = len(lately) + 1
    if spent < parameters["budget"]:
        return None
    facts = [Fact("late_retries", _SPENT, f"{spent} late retries")]
    if _are_in_a_row(seen.generation, trace.late_generations[: len(lately)]):
        facts.append(
            Fact("every_generation", _IN_A_ROW, f"generation {seen.generation} and before")
        )
    facts.extend(client_facts(sighting))
    facts.extend(early_refresh(sighting))
    return signal_of(facts, parameters)


def _are_in_a_row(generation: int, before: tuple[int, ...]) -> bool:
    return bool(before) and generation - before[0] == 1


RULE = UserRule(
    about=Description(
        name="late-retry-budget",
        title="Late retries run out",
        looks_for="The last retry after the overlap window that a family is forgiven, at the "
        "generation that follows the one before: somebody presents every token a second time.",
        why="A thief in lockstep with the owner needs a late retry at each generation. The next "
        "one ends the family as reuse.",
        techniques=("T1528", "T1550.001"),
        false_positives=("A client that loses two answers in a row, in a tunnel for instance.",),
        severity=Severity.MEDIUM,
        response=Response.ALERT,
        subject=Subject.FAMILY,
        parameters={"budget": 2, "within_s": 86_400, "alert_at": 60},
    ),
    kinds=frozenset({Kind.LATE_RETRY}),
    look=_look,
)
