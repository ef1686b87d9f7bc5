"""What analysts say, hours later, of some of what they will have looked at."""

from collections.abc import Iterable
from random import Random

from detector.world.lines import HOUR_MS, Do, Line

_OF_ATTACKS = 0.3
_OF_HONEST = 0.02


def verdicts_on(lines: Iterable[Line], dice: Random) -> list[Line]:
    """Verdicts on some of the sign-ins among these lines: true of attacks, false of others."""
    return [
        Line(
            line.at + dice.randint(2, 9) * HOUR_MS,
            Do.VERDICT,
            line.label,
            family=line.family,
            verdict="true_positive" if is_attack else "false_positive",
        )
        for line in lines
        if line.do is Do.LOGIN
        for is_attack in [line.label.startswith("attack")]
        if dice.random() < (_OF_ATTACKS if is_attack else _OF_HONEST)
    ]
