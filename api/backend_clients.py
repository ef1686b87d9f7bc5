"""The client of a trusted backend's user, as the backend tells it."""

from api.problems import ProblemError, ProblemKind
from api.schemas import BackendClient
from domain.client import USER_AGENT_MAX_CHARS, ClientContext, canonical_ip
from domain.texts import storable


def client_told_by(told: BackendClient) -> ClientContext:
    """What a backend says of its user's client, cut to what is worth keeping.

    Raises:
        ProblemError: The address is none.
    """
    ip = None
    if told.ip is not None:
        ip = canonical_ip(told.ip)
        if ip is None:
            raise ProblemError(ProblemKind.INVALID_INPUT, "client.ip is not an IP address")
    user_agent = told.user_agent
    return ClientContext(
        ip=ip,
        user_agent=None if user_agent is None else storable(user_agent[:USER_AGENT_MAX_CHARS]),
        hints={name: storable(value) for name, value in told.hints.items()},
    )
