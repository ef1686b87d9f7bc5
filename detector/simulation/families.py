"""The sessions of a played file: the domain's own ``decide`` and ``evolve``, kept in memory."""

from datetime import datetime
from heapq import heappop, heappush

from domain.client import ClientContext
from domain.events.families import EndReason, TokenDelivery
from domain.family import Family, fold_new
from domain.family_decisions import (
    Decision,
    ExpireSessions,
    FamilyCommand,
    Refresh,
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

    @property
    def expires_at(self) -> datetime:
        """When it is over if nothing more comes."""
        return min(self.family.expires_at, self.family.sessions[0].idle_expires_at)

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

    def rotated(self, presented: RefreshToken) -> None:
        """Take down the successor that its client was answered with."""
        self.previous = presented
        self.current = successor_of(presented, salt=_SALT, key_id=1, keys=_KEYS)


class Families:
    """All families of a played file, by the names that it gives them."""

    def __init__(self, policy: SessionPolicy) -> None:
        """Start with none."""
        self._policy = policy
        self._families: dict[str, PlayedFamily] = {}
        self._of_user: dict[str, list[str]] = {}
        self._expiries: list[tuple[datetime, str]] = []
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
        # Its token spells the session's id in ASCII, which a file's name for it need not be.
        session_id = SessionId(str(len(self._families)))
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
        played = PlayedFamily(family, RefreshToken(1, family_id, session_id, 1, _STRANGE_SECRET))
        surplus = self._make_room(user, at)
        self._families[name] = played
        self.live += 1
        self._of_user.setdefault(user, []).append(name)
        heappush(self._expiries, (played.expires_at, name))
        return surplus

    def of_user(self, user: str) -> list[PlayedFamily]:
        """A user's live families."""
        names = self._of_user.get(user, [])
        live = [name for name in names if self._families[name].family.is_live]
        if len(live) < len(names):
            self._of_user[user] = live
        return [self._families[name] for name in live]

    def refresh(
        self, played: PlayedFamily, generation: int, client: ClientContext, at: datetime
    ) -> Decision:
        """Present the token of a generation."""
        presented = played.token(generation)
        before = played.family.sessions[0].generation
        decision = self.command(
            played,
            Refresh(
                presented=presented, client=client, salt=_SALT, keys=_KEYS, policy=self._policy
            ),
            at,
        )
        if played.family.sessions[0].generation != before:
            played.rotated(presented)
        return decision

    def command(self, played: PlayedFamily, command: FamilyCommand, at: datetime) -> Decision:
        """Decide, and fold what was decided."""
        family = played.family
        decision = decide(family, command, at)
        if decision.events:
            played.family = fold_new(family, family.family_id, decision.events, at)
            self.live -= family.is_live and not played.family.is_live
        return decision

    def expire(self, now: datetime) -> list[PlayedFamily]:
        """End what has run out of time, as the service's sweep does; returns what that was."""
        over = []
        while self._expiries and self._expiries[0][0] <= now:
            _, name = heappop(self._expiries)
            played = self._families[name]
            if not played.family.is_live:
                continue
            if played.expires_at > now:  # it was in use meanwhile
                heappush(self._expiries, (played.expires_at, name))
                continue
            self.command(played, ExpireSessions(), now)
            over.append(played)
        return over

    def _make_room(self, user: str, at: datetime) -> list[PlayedFamily]:
        live = self.of_user(user)
        surplus = len(live) - self._policy.session_limit + 1
        if surplus <= 0:
            return []
        live.sort(key=lambda played: played.family.sessions[0].last_seen_at)
        doomed = live[:surplus]
        for played in doomed:
            self.command(played, RevokeFamily(EndReason.SESSION_LIMIT), at)
        return doomed
