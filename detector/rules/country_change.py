"""A family's token comes from another country, on the same device, sooner than one can travel."""

from detector.findings import Signal, Subject
from detector.observations import Kind
from detector.rule import Description, Parameters, UserRule
from detector.sighting import Change, Sighting
from detector.suspicions import signal_elsewhere
from domain.detection import Response, Severity


def _look(sighting: Sighting, parameters: Parameters) -> Signal | None:
    if sighting.change is not Change.COUNTRY:
        return None
    return signal_elsewhere(sighting, parameters)


RULE = UserRule(
    about=Description(
        name="country-change",
        title="Another country within a session",
        looks_for="A refresh from another country than the family's last, sooner than a flight "
        "with its airports takes, or with something else that does not fit.",
        why="The token got there faster than its owner could.",
        techniques=("T1528", "T1550.001", "T1539"),
        false_positives=(
            (
                "A roaming telephone whose carrier sends its traffic home first, when it joins a "
                "hotel's Wi-Fi."
            ),
            "Addresses that databases place in the wrong country.",
        ),
        severity=Severity.MEDIUM,
        response=Response.STEP_UP,
        subject=Subject.FAMILY,
        parameters={"alert_at": 50, "step_up_at": 60, "revoke_at": 130},
    ),
    kinds=frozenset({Kind.REFRESH, Kind.RETRY, Kind.LATE_RETRY}),
    look=_look,
)
