"""Plays request lines through the rules of families alone: what the domain says, no detector."""

from datetime import UTC, datetime

from domain.client import ClientContext
from domain.events.families import EndReason, RefreshRetried
from domain.family import Family, fold_new
from domain.family_decisions import EndSession, Refresh, decide
from domain.ids import FamilyId, SessionId
from domain.refresh_token import RefreshToken, encode_bytes, successor_of
from tests.unit.domain.builders import KEYS, POLICY, first_token, forged, start_session
from tests.unit.world.requests import Request

_SECRET = bytes(range(32))
_SALT = encode_bytes(bytes(16))


class DomainPlayer:
    """Families by name, each with the tokens that were handed out."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}
        self._tokens: dict[str, dict[int, RefreshToken]] = {}

    def play(self, request: Request) -> str:
        """What becomes of a request: ``ok``, ``retry``, or why it is refused."""
        at = datetime.fromisoformat(request.at).astimezone(UTC)
        match request.do:
            case "login":
                return self._sign_in(request, at)
            case "refresh":
                return self._refresh(request, at)
            case "logout":
                family = self._families[request.family]
                return self._carry_out(
                    request.family, EndSession(family.sessions[0].session_id, EndReason.LOGOUT), at
                )
            case _:
                return "ok"

    def _sign_in(self, request: Request, at: datetime) -> str:
        number = len(self._families)
        session_id = SessionId(f"0195513a-0000-7000-9000-{number:012d}")
        family_id = FamilyId(f"0195513a-0000-7000-8000-{number:012d}")
        command = start_session(
            session_id=session_id, client=client_of(request), policy=POLICY, secret=_SECRET
        )
        decision = decide(None, command, at)
        self._families[request.family] = fold_new(None, family_id, decision.events, at)
        token = first_token(family_id=family_id, session_id=session_id, secret=_SECRET)
        self._tokens[request.family] = {1: token}
        return "ok"

    def _refresh(self, request: Request, at: datetime) -> str:
        tokens = self._tokens[request.family]
        family = self._families[request.family]
        presented = tokens.get(request.generation) or _unknown(tokens[1], request.generation)
        command = Refresh(
            presented=presented,
            client=client_of(request),
            salt=_SALT,
            keys=KEYS,
            policy=POLICY,
        )
        result = self._carry_out(request.family, command, at)
        after = self._families[request.family].sessions[0]
        if after.generation > family.sessions[0].generation:
            tokens[after.generation] = successor_of(
                presented, salt=_SALT, key_id=after.token_key, keys=KEYS
            )
        return result

    def _carry_out(self, name: str, command: Refresh | EndSession, at: datetime) -> str:
        family = self._families[name]
        decision = decide(family, command, at)
        if decision.events:
            self._families[name] = fold_new(family, family.family_id, decision.events, at)
        if decision.refusal is not None:
            return decision.refusal.value
        is_retry = any(isinstance(new.event, RefreshRetried) for new in decision.events)
        return "retry" if is_retry else "ok"


def client_of(request: Request) -> ClientContext:
    return ClientContext(
        ip=request.ip,
        user_agent=request.user_agent,
        hints=request.hints,
        device_key=request.device_id,
    )


def _unknown(first: RefreshToken, generation: int) -> RefreshToken:
    token = forged(generation)
    return RefreshToken(token.key_id, first.family_id, first.session_id, generation, token.secret)
