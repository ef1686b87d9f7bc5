"""The risk score of a sign-in: on record for the riskiest few per cent, louder above."""

from msgspec.structs import replace

from detector.findings import Signal, Subject
from detector.novelty import Novelty, novelty_of, signal_by_risk
from detector.observations import Kind
from detector.rule import Description, Parameters, UserRule
from detector.sighting import Sighting
from detector.sign_in_risk import is_strange_client
from domain.detection import Response, Severity


def _look(sighting: Sighting, parameters: Parameters) -> Signal | None:
    is_strange = is_strange_client(sighting)
    if not is_strange and not sighting.carrier_is_new:
        return None  # the user's own device where it always is: most sign-ins
    signal = signal_by_risk(sighting, parameters)
    if signal is None or signal.score is None or signal.score < parameters["record_at"]:
        return None
    has_own_rule = novelty_of(sighting) is not Novelty.NONE  # which says it: one alert is enough
    if signal.response is Response.RECORD or has_own_rule or not is_strange:
        return replace(signal, response=Response.RECORD, severity=Severity.INFO)
    return signal


RULE = UserRule(
    about=Description(
        name="risky-sign-in",
        title="Risky sign-in",
        looks_for="A sign-in whose address and user agent are likelier an attacker's than the "
        "user's, by what the user and everybody else have shown before. A device of the user's "
        "is on record at most, and a further one weighs less in the user's first two days.",
        why="It weighs how unusual something is for this user and how usual for others, where "
        "other rules ask only whether it is new (Freeman et al., NDSS 2016).",
        techniques=("T1078",),
        false_positives=("Somebody whose every sign-in is different.",),
        severity=Severity.MEDIUM,
        response=Response.RECORD,
        subject=Subject.USER,
        parameters={"record_at": 40, "alert_at": 68, "step_up_at": 80},
    ),
    kinds=frozenset({Kind.SIGN_IN}),
    look=_look,
)
