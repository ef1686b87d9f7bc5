"""Somebody who never comes through VPNs or data centres does so now."""

from msgspec.structs import replace

from detector.findings import Fact, Signal, Subject
from detector.observations import Kind
from detector.rule import Description, Parameters, UserRule
from detector.sighting import Change, Sighting
from detector.sign_in_risk import risk_of
from detector.suspicions import (
    client_facts,
    cookie_kept,
    early_refresh,
    network_facts,
    signal_of,
    tunnel_facts,
)
from domain.detection import Response, Severity

_NEW_DEVICE = 30


def _look(sighting: Sighting, parameters: Parameters) -> Signal | None:
    if sighting.seen.kind is Kind.SIGN_IN:
        return _sign_in(sighting, parameters)
    if sighting.change is not Change.TUNNEL:
        return None
    client = client_facts(sighting)
    way_out = tunnel_facts(sighting)
    if not client and not way_out:
        return None
    facts = [
        *way_out,
        *network_facts(sighting),
        *client,
        *early_refresh(sighting),
        *cookie_kept(sighting),
    ]
    return signal_of(facts, parameters)


def _sign_in(sighting: Sighting, parameters: Parameters) -> Signal | None:
    way_out = tunnel_facts(sighting)
    if not way_out or not sighting.is_settled or not sighting.device_is_new:
        return None
    device = Fact("new_device", _NEW_DEVICE, sighting.seen.device.signature)
    # No session yet that could be asked for a proof: the password was right just now.
    alert_only = {"alert_at": parameters["sign_in_alert_at"]}
    signal = signal_of([*way_out, *network_facts(sighting), device], alert_only)
    risk = risk_of(sighting)  # by which findings about sign-ins are ranked, whichever rule spoke
    return signal and replace(signal, score=None if risk is None else risk.points)


RULE = UserRule(
    about=Description(
        name="anonymous-network",
        title="Anonymous or hosting network",
        looks_for="A refresh, or a sign-in on a new device, through a VPN, relay, proxy or data "
        "centre by somebody who does not use any. The place of such a network is not judged.",
        why="Thieves hide behind them and work from rented machines; most people never do.",
        techniques=("T1090.003", "T1078", "T1550.001"),
        false_positives=(
            (
                "Somebody's first day with a VPN; a company that starts to send its traffic "
                "through a cloud proxy."
            ),
        ),
        severity=Severity.MEDIUM,
        response=Response.ALERT,
        subject=Subject.FAMILY,
        parameters={"alert_at": 50, "step_up_at": 90, "revoke_at": 150, "sign_in_alert_at": 80},
    ),
    kinds=frozenset({Kind.SIGN_IN, Kind.REFRESH, Kind.RETRY, Kind.LATE_RETRY}),
    look=_look,
)
