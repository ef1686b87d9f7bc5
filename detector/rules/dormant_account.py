"""An account that nobody has used for months is used from somewhere new, on something new."""

from msgspec.structs import replace

from detector.findings import Fact, Signal, Subject
from detector.novelty import DORMANT_AFTER_S, Novelty, novelty_of, signal_by_risk
from detector.observations import Kind
from detector.rule import Description, Parameters, UserRule
from detector.sighting import Sighting
from domain.detection import Response, Severity

_DORMANT = 10
_DAY_S = 86400


def _look(sighting: Sighting, parameters: Parameters) -> Signal | None:
    if novelty_of(sighting) is not Novelty.DORMANT:
        return None
    days = int((sighting.seen.second - sighting.profile.last_seen) // _DAY_S)
    usual = f"at most {int(DORMANT_AFTER_S // _DAY_S)}"
    dormant = Fact("dormant", _DORMANT, f"{days} days", usual)
    signal = signal_by_risk(sighting, parameters)
    if signal is None:
        return Signal((dormant,))
    return replace(signal, facts=(dormant, *signal.facts), response=None)


RULE = UserRule(
    about=Description(
        name="dormant-account",
        title="Dormant account wakes",
        looks_for="No sign-in and no move for ninety days, then a sign-in on a new device (or one "
        "that does not quite fit) from a new autonomous system.",
        why="Nobody looks after such an account, its password is old and may be in a leak.",
        techniques=("T1078",),
        false_positives=("Somebody who moved house and bought a telephone in the meantime.",),
        severity=Severity.MEDIUM,
        response=Response.STEP_UP,
        subject=Subject.USER,
        parameters={"alert_at": 0, "step_up_at": 0},
    ),
    kinds=frozenset({Kind.SIGN_IN}),
    look=_look,
)
