"""What rules ask for, carried out through the domain's commands in the detector's transaction."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta

from domain.detection import Outcome, Response
from domain.detection_policy_decisions import HoldBack
from domain.detection_work import Reacted, Reaction
from domain.events.envelope import Actor, ActorKind, Cause
from domain.events.families import EndReason
from domain.family import Family
from domain.family_decisions import EndSession, FamilyCommand, RequireStepUp, RevokeFamily
from domain.ids import FamilyId, UserId
from infra.detection_policy_store import DetectionPolicyStore
from infra.event_store import database_clock, load_families
from infra.family_execution import command_held_families, hold_families
from infra.postgres import Connection
from infra.sealing import DataKeys, UnsealError
from infra.user_commands import PostgresUserCommands

Allows = Callable[[int, int, int], bool]
"""Whether a rule that ended so many families within the hour may end so many more of so many."""

_LOCK_USERS = """
SELECT 1 FROM users WHERE user_id = ANY(%s::uuid[]) ORDER BY user_id FOR NO KEY UPDATE
"""
_LIVE = """
SELECT user_id, family_id FROM sessions WHERE user_id = ANY(%s::uuid[]) AND ended_at IS NULL
"""
_ENDED = """
SELECT coalesce(sum(families), 0) FROM detector_actions
 WHERE rule = %s AND minute > clock_timestamp() - interval '1 hour'
"""
_NOTE = """
INSERT INTO detector_actions (rule, minute, families)
SELECT rule, date_trunc('minute', clock_timestamp()), families
  FROM unnest(%s::text[], %s::int[]) AS n(rule, families) ORDER BY rule
ON CONFLICT (rule, minute) DO UPDATE SET families = detector_actions.families + excluded.families
"""
_ACTIVE = """
SELECT count(*) FROM sessions
 WHERE ended_at IS NULL AND idle_expires_at > clock_timestamp() AND expires_at > clock_timestamp()
"""
_REST = timedelta(hours=1)
_FEW = 20
"""Below so many within the hour nobody counts how many families are active."""
_log = logging.getLogger(__name__)


class Reactions:
    """Carries reactions out."""

    def __init__(
        self,
        data_keys: DataKeys,
        users: PostgresUserCommands,
        policies: DetectionPolicyStore,
        rules: Mapping[str, Mapping[str, int]],
        allows: Allows,
    ) -> None:
        """Act through these.

        Args:
            data_keys: Open the subjects' data keys.
            users: For what concerns all families of a user.
            policies: Where it is put on record that a rule is held back.
            rules: The rules that there are, with their parameters.
            allows: The circuit breaker.
        """
        self._data_keys = data_keys
        self._users = users
        self._policies = policies
        self._rules = rules
        self._allows = allows

    async def carry_out(
        self, connection: Connection, reactions: Sequence[Reaction]
    ) -> list[Reacted]:
        """Carry reactions out, all of one transaction at once.

        All that they touch is locked before anything is done, users first, then families by id, as
        everybody locks.

        Returns:
            What became of each, in the order that they were given.
        """
        users = {each.user_id for each in reactions if _is_about_all(each)}
        families = {each.family_id for each in reactions if each.family_id is not None}
        live = await self._lock(connection, users, families)
        tally = _Tally()
        outcomes = []
        for reaction in reactions:
            try:
                if _is_about_all(reaction):
                    outcomes.append(
                        await self._end_all(connection, reaction, live[reaction.user_id], tally)
                    )
                else:
                    outcomes.append(await self._command(connection, reaction, tally))
            except UnsealError as error:  # erased, as far as acting is concerned
                _log.warning("%s cannot act: %s", reaction.rule, error)
                outcomes.append(_NOTHING)
        if tally.ended:
            rules = sorted(tally.ended)
            await connection.execute(_NOTE, (rules, [tally.ended[rule] for rule in rules]))
        return outcomes

    async def _lock(
        self, connection: Connection, users: Collection[UserId], families: set[FamilyId]
    ) -> dict[UserId, int]:
        """Hold the users, their families and these; how many live families each user has."""
        live = dict.fromkeys(users, 0)
        if users:
            await connection.execute(_LOCK_USERS, (list(users),))
            cursor = await connection.execute(_LIVE, (list(users),), binary=True)
            theirs = {(user_id, family_id) for user_id, family_id in await cursor.fetchall()}
            families = families | {family_id for _, family_id in theirs}
            for user_id, _ in theirs:
                live[user_id] += 1
        if families:
            await hold_families(connection, sorted(families))
        return live

    async def _end_all(
        self, connection: Connection, reaction: Reaction, live: int, tally: "_Tally"
    ) -> Reacted:
        if not live:
            return _NOTHING
        if not await self._may_end(connection, reaction, live, tally):
            return Reacted(Outcome.HELD_BACK, 0)
        ended = await self._users.end_families_within(
            connection, reaction.user_id, EndReason.RULE, None, _cause(reaction)
        )
        return tally.note(reaction.rule, ended if isinstance(ended, int) else 0)

    async def _command(
        self, connection: Connection, reaction: Reaction, tally: "_Tally"
    ) -> Reacted:
        family_id = reaction.family_id
        if family_id is None:
            return _NOTHING
        loaded, _ = await load_families(connection, [family_id])
        if family_id not in loaded or not loaded[family_id].family.is_live:
            return _NOTHING
        command = _family_command(reaction.response, loaded[family_id].family)
        if isinstance(command, RequireStepUp):
            done = await command_held_families(
                connection, [family_id], command, _cause(reaction), self._data_keys
            )
            return Reacted(Outcome.DONE, done) if done else _NOTHING
        if not await self._may_end(connection, reaction, 1, tally):
            return Reacted(Outcome.HELD_BACK, 0)
        done = await command_held_families(
            connection, [family_id], command, _cause(reaction), self._data_keys
        )
        return tally.note(reaction.rule, done)

    async def _may_end(
        self, connection: Connection, reaction: Reaction, more: int, tally: "_Tally"
    ) -> bool:
        """The circuit breaker: where it says no, the rule is held back, and that is on record."""
        cursor = await connection.execute(_ENDED, (reaction.rule,))
        row = await cursor.fetchone()
        ended = (int(row[0]) if row else 0) + tally.ended.get(reaction.rule, 0)
        if ended + more <= _FEW:
            return True
        if tally.active is None:
            cursor = await connection.execute(_ACTIVE)
            row = await cursor.fetchone()
            tally.active = int(row[0]) if row else 0
        if self._allows(ended, more, tally.active):
            return True
        await self._hold_back(connection, reaction, ended, tally.active)
        return False

    async def _hold_back(
        self, connection: Connection, reaction: Reaction, ended: int, active: int
    ) -> None:
        at = await database_clock(connection)
        policy = await self._policies.read(connection)
        until = policy.held_back.get(reaction.rule)
        if until is not None and until > at:
            return
        command = HoldBack(rule=reaction.rule, families=ended, active=active, until=at + _REST)
        await self._policies.append(connection, command, self._rules, _cause(reaction))


class _Tally:
    """What one batch has ended so far, by rule."""

    def __init__(self) -> None:
        self.ended: dict[str, int] = {}
        self.active: int | None = None
        """Families that were active when it was first asked."""

    def note(self, rule: str, families: int) -> Reacted:
        if not families:
            return _NOTHING
        self.ended[rule] = self.ended.get(rule, 0) + families
        return Reacted(Outcome.DONE, families)


_NOTHING = Reacted(Outcome.NOTHING_LEFT, 0)


def _family_command(response: Response, family: Family) -> FamilyCommand:
    """The command that a response is."""
    match response:
        case Response.STEP_UP:
            return RequireStepUp()
        case Response.REVOKE_SESSION:
            return EndSession(family.sessions[0].session_id, EndReason.RULE)
        case Response.REVOKE_FAMILY:
            return RevokeFamily(EndReason.RULE)
        case _:
            msg = f"{response} is no command on a family"
            raise ValueError(msg)


def _is_about_all(reaction: Reaction) -> bool:
    return reaction.response is Response.REVOKE_ALL


def _cause(reaction: Reaction) -> Cause:
    return Cause(
        Actor(ActorKind.RULE, reaction.rule), reaction.correlation_id, reaction.causation_id
    )
