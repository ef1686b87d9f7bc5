"""A genuine token that this history never issued."""

from detector.findings import Fact, Signal, Subject
from detector.observations import Kind
from detector.rule import Description, Parameters, UserRule
from detector.sighting import Sighting
from domain.detection import Response, Severity


def _look(sighting: Sighting, _: Parameters) -> Signal:
    seen = sighting.seen
    ahead = seen.generation - seen.current_generation
    value = f"generation {seen.generation}, {ahead} ahead" if ahead else "another current token"
    return Signal(
        (Fact("token_never_issued", 100, value, f"generation {seen.current_generation}"),)
    )


RULE = UserRule(
    about=Description(
        name="future-generation",
        title="A token that was never issued",
        looks_for="A refresh token whose seal is genuine and whose generation this history has "
        "not reached, or whose secret is not the current one's. It was refused.",
        why="Either the database was set back to a backup, and clients are ahead of it, or "
        "somebody else has the token key. The first shows on many families at once, right after "
        "the restore.",
        techniques=("T1552.004", "T1550.001"),
        false_positives=("A database restored from a backup.",),
        severity=Severity.HIGH,
        response=Response.ALERT,
        subject=Subject.FAMILY,
    ),
    kinds=frozenset({Kind.UNRECOGNISED}),
    look=_look,
)
