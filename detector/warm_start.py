"""Warm start: what earlier sign-ins, kept elsewhere, teach before the first one here.

No rule is asked and nothing is alerted: the sign-ins are learned from, in their order.
"""

from detector.crowd_names import Conceal, crowd_names
from detector.memory import Key, Memory, Scope
from detector.observations import Kind, Observation
from detector.observing import crowd_keys, observe, user_keys
from detector.policy import RulesInForce
from detector.rulebook import Rulebook
from detector.simulation.evidence import Evidence
from detector.simulation.requests import Login, client_of, instant_of
from domain.ids import EventId, FamilyId, UserId

_SILENT = RulesInForce(Rulebook(()))


def sign_in_of(
    login: Login, user_id: UserId, number: int, evidence: Evidence, conceal: Conceal
) -> Observation:
    """An earlier sign-in as an observation of the user that it was.

    Args:
        login: As the file has it.
        user_id: Who the user is here.
        number: Its line in the file.
        evidence: Tells what is known of its client.
        conceal: Names for what is counted over many users: the detector's own.
    """
    client = client_of(login)
    network, device = evidence.network(client.ip, login.geo), evidence.device(client)
    return Observation(
        kind=Kind.SIGN_IN,
        second=instant_of(login).timestamp(),
        event_id=EventId(str(number)),
        user_id=user_id,
        family_id=FamilyId(f"import-{number}"),
        client=client,
        network=network,
        device=device,
        concealed=crowd_names(client, network, device, conceal),
    )


def keys_to_learn(seen: Observation) -> list[Key]:
    """The states that learning from a sign-in needs."""
    return [*crowd_keys(seen), *user_keys(seen)]


def learn(memory: Memory, seen: Observation) -> None:
    """Learn from a sign-in; ``memory`` holds the states of ``keys_to_learn``.

    The family that it opened lives elsewhere, so nothing is kept of it.
    """
    observe(memory, seen, _SILENT)
    memory.forget((Scope.TRACE, seen.family_id or ""))
