"""The sessions of a played file: the domain's own ``decide`` and ``evolve``, kept in memory."""

from datetime import datetime

from domain.client import ClientContext
from domain.events.families import EndReason, TokenDelivery
from domain.family import Family, fold_new
from domain.family_decisions import (
    Decision,
    EndSession,
    FamilyCommand,
    Refresh,
    RequireStepUp,
    RevokeFamily,
    StartSession,
    decide,
)
from domain.ids import FamilyId, SessionId, UserId
from domain.policy import SessionPolicy
from domain.refresh_token import RefreshToken, TokenKeys, successor_of

_KEYS = TokenKeys(1, {1: bytes(range(32))})
"""A player has no secrets to keep; the tokens are real all the same."""
_SALT = "AAAAAAAAAAAAAAAAAAAAAA"
_STRANGE_SECRET = bytes(32)


class PlayedFamily:
    """One family, and the two tokens of it that its client could still use."""

    __slots__ = ("current", "family", "previous")

    def __init__(self, family: Family, current: RefreshToken) -> None:
        """Start at a sign-in."""
        self.family = family
        self.current = current
        self.previous: RefreshToken | None = None

    def token(self, generation: int) -> RefreshToken:
        """The token of a generation; those long gone have some secret, which nobody looks at."""
        if generation == self.current.generation:
            return self.current
        if self.previous is not None and generation == self.previous.generation:
            return self.previous
        current = self.current
        return RefreshToken(
            current.key_id, current.family_id, current.session_id, generation, _STRANGE_SECRET
        )

    def command(self, command: FamilyCommand, at: datetime) -> Decision:
        """Decide, and fold what was decided."""
        decision = decide(self.family, command, at)
        if decision.events:
            self.family = fold_new(self.family, self.family.family_id, decision.events, at)
        return decision

    def refresh(
        self, generation: int, client: ClientContext, policy: SessionPolicy, at: datetime
    ) -> Decision:
        """Present the token of a generation."""
        presented = self.token(generation)
        before = self.family.sessions[0].generation
        decision = self.command(
            Refresh(presented=presented, client=client, salt=_SALT, keys=_KEYS, policy=policy), at
        )
        if self.family.sessions[0].generation != before:
            self.previous = presented
            self.current = successor_of(presented, salt=_SALT, key_id=1, keys=_KEYS)
        return decision


class Families:
    """All families of a played file, by the names that it gives them."""

    def __init__(self, policy: SessionPolicy) -> None:
        """Start with none."""
        self._policy = policy
        self._families: dict[str, PlayedFamily] = {}
        self._of_user: dict[str, list[str]] = {}
        self.live = 0

    def get(self, name: str) -> PlayedFamily | None:
        """The family of that name."""
        return self._families.get(name)

    def start(
        self, name: str, user: str, client: ClientContext, at: datetime
    ) -> list[PlayedFamily] | None:
        """Open a family.

        Returns:
            The families that ended to make room for it; None where there is one of that name.
        """
        if name in self._families:
            return None
        session_id = SessionId(name)
        command = StartSession(
            session_id=session_id,
            user_id=UserId(user),
            client_id="player",
            auth_methods=("pwd",),
            delivery=TokenDelivery.COOKIE,
            persistent=True,
            secret=_STRANGE_SECRET,
            token_key=1,
            client=client,
            device_name=None,
            policy=self._policy,
        )
        family_id = FamilyId(name)
        family = fold_new(None, family_id, decide(None, command, at).events, at)
        self._families[name] = PlayedFamily(
            family, RefreshToken(1, family_id, session_id, 1, _STRANGE_SECRET)
        )
        self.live += 1
        surplus = self._make_room(user, at)
        self._of_user.setdefault(user, []).append(name)
        return surplus

    def of_user(self, user: str) -> list[PlayedFamily]:
        """A user's live families."""
        names = self._of_user.get(user, [])
        live = [name for name in names if self._families[name].family.is_live]
        if len(live) < len(names):
            self._of_user[user] = live
        return [self._families[name] for name in live]

    def end(self, played: PlayedFamily, command: FamilyCommand, at: datetime) -> bool:
        """Carry out a command that ends or expires a family; whether it was live until now."""
        was_live = played.family.is_live
        played.command(command, at)
        ended = was_live and not played.family.is_live
        self.live -= ended
        return ended

    def _make_room(self, user: str, at: datetime) -> list[PlayedFamily]:
        live = self.of_user(user)
        surplus = len(live) - self._policy.session_limit + 1
        if surplus <= 0:
            return []
        live.sort(key=lambda played: played.family.sessions[0].last_seen_at)
        doomed = live[:surplus]
        for played in doomed:
            self.end(played, RevokeFamily(EndReason.SESSION_LIMIT), at)
        return doomed


def end_session(played: PlayedFamily, reason: EndReason) -> EndSession:
    """The command that ends a played family's one session."""
    return EndSession(played.family.sessions[0].session_id, reason)


def require_step_up() -> RequireStepUp:
    """The command that has the user prove themself again."""
    return RequireStepUp()
