"""A refresh token that had been replaced was presented, and it was no honest retry."""

from detector.findings import Fact, Signal, Subject
from detector.observations import Kind
from detector.rule import Description, Parameters, UserRule
from detector.sighting import Sighting
from detector.suspicions import anchor_name, name_of
from domain.detection import Response, Severity

_CERTAIN = 100


def _look(sighting: Sighting, _: Parameters) -> Signal:
    seen = sighting.seen
    behind = max(1, seen.current_generation - seen.generation)
    facts = [Fact("replaced_token", _CERTAIN, f"{behind} generations old", "the current one")]
    # The rest does not make it any surer: it tells an analyst which of the two came now.
    if sighting.device_changed and sighting.trace is not None:
        facts.append(Fact("other_device", 0, seen.device.signature, sighting.trace.device))
    if sighting.network_changed:
        usual = anchor_name(sighting.latest_family_anchor)
        facts.append(Fact("other_network", 0, name_of(seen.network), usual))
    if sighting.trace is not None and sighting.trace.late_retries:
        lately = f"{len(sighting.trace.late_retries)} before"
        facts.append(Fact("late_retries", 0, lately))
    return Signal(tuple(facts))


RULE = UserRule(
    about=Description(
        name="refresh-token-reuse",
        title="Refresh token reuse",
        looks_for=(
            "A refresh token that was replaced before, presented again: not the same client's "
            "retry of the immediate predecessor."
        ),
        why=(
            "Two parties hold tokens of one session. Nobody can tell which of them is the owner, "
            "so the family ends for both (RFC 9700 §4.14.2). The refresh itself has revoked it."
        ),
        techniques=("T1528", "T1550.001"),
        false_positives=(
            "A client with several copies of its token store: a restored backup of a telephone.",
        ),
        severity=Severity.CRITICAL,
        response=Response.REVOKE_FAMILY,
        subject=Subject.FAMILY,
    ),
    kinds=frozenset({Kind.REUSE}),
    look=_look,
)
