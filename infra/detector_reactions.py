"""What rules ask for, carried out through the domain's commands in the detector's transaction."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from domain.detection import Outcome, Response
from domain.detection_policy_decisions import HoldBack
from domain.detection_work import Reacted, Reaction
from domain.events.envelope import Actor, ActorKind, Cause
from domain.events.families import EndReason
from domain.family_decisions import EndSession, FamilyCommand, RequireStepUp, RevokeFamily
from domain.ids import FamilyId
from infra.detection_policy_store import DetectionPolicyStore
from infra.event_store import database_clock, load_families
from infra.family_execution import command_held_families, hold_families
from infra.postgres import Connection
from infra.sealing import DataKeys
from infra.user_commands import PostgresUserCommands

Allows = Callable[[int, int, int], bool]
"""Whether a rule that ended so many families within the hour may end so many more of so many."""

_ENDED = """
SELECT coalesce(sum(families), 0) FROM detector_actions
 WHERE rule = %s AND minute > clock_timestamp() - interval '1 hour'
"""
_NOTE = """
INSERT INTO detector_actions (rule, minute, families)
VALUES (%s, date_trunc('minute', clock_timestamp()), %s)
ON CONFLICT (rule, minute) DO UPDATE SET families = detector_actions.families + excluded.families
"""
_ACTIVE = """
SELECT count(*) FROM sessions
 WHERE ended_at IS NULL AND idle_expires_at > clock_timestamp() AND expires_at > clock_timestamp()
"""
_LIVE_OF_USER = "SELECT count(*) FROM sessions WHERE user_id = %s AND ended_at IS NULL"
_REST = timedelta(hours=1)
_FEW = 20
"""Below so many within the hour nobody counts how many families are active."""


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

        Users are locked first, then families by id, as everybody locks.

        Returns:
            What became of each, in the order that they were given.
        """
        outcomes: dict[int, Reacted] = {}
        of_users = [each for each in enumerate(reactions) if _is_about_all(each[1])]
        of_families = [each for each in enumerate(reactions) if not _is_about_all(each[1])]
        for index, reaction in sorted(of_users, key=lambda each: each[1].user_id):
            outcomes[index] = await self._end_all(connection, reaction)
        ids = sorted({each.family_id for _, each in of_families if each.family_id is not None})
        if ids:
            await hold_families(connection, ids)
        for index, reaction in of_families:
            outcomes[index] = await self._command(connection, reaction)
        return [outcomes[index] for index in range(len(reactions))]

    async def _end_all(self, connection: Connection, reaction: Reaction) -> Reacted:
        cursor = await connection.execute(_LIVE_OF_USER, (reaction.user_id,))
        row = await cursor.fetchone()
        live = int(row[0]) if row else 0
        if not live:
            return Reacted(Outcome.NOTHING_LEFT, 0)
        if not await self._may_end(connection, reaction, live):
            return Reacted(Outcome.HELD_BACK, 0)
        ended = await self._users.end_families_within(
            connection, reaction.user_id, EndReason.RULE, None, _cause(reaction)
        )
        return await self._ended(connection, reaction, ended if isinstance(ended, int) else 0)

    async def _command(self, connection: Connection, reaction: Reaction) -> Reacted:
        family_id = reaction.family_id
        if family_id is None:
            return Reacted(Outcome.NOTHING_LEFT, 0)
        command = await _family_command(connection, reaction.response, family_id)
        if command is None:
            return Reacted(Outcome.NOTHING_LEFT, 0)
        ends = not isinstance(command, RequireStepUp)
        if ends and not await self._may_end(connection, reaction, 1):
            return Reacted(Outcome.HELD_BACK, 0)
        done = await command_held_families(
            connection, [family_id], command, _cause(reaction), self._data_keys
        )
        if ends:
            return await self._ended(connection, reaction, done)
        return Reacted(Outcome.DONE if done else Outcome.NOTHING_LEFT, done)

    async def _ended(self, connection: Connection, reaction: Reaction, families: int) -> Reacted:
        if not families:
            return Reacted(Outcome.NOTHING_LEFT, 0)
        await connection.execute(_NOTE, (reaction.rule, families))
        return Reacted(Outcome.DONE, families)

    async def _may_end(self, connection: Connection, reaction: Reaction, more: int) -> bool:
        """The circuit breaker: where it says no, the rule is held back, and that is on record."""
        cursor = await connection.execute(_ENDED, (reaction.rule,))
        row = await cursor.fetchone()
        ended = int(row[0]) if row else 0
        if ended + more <= _FEW:
            return True
        cursor = await connection.execute(_ACTIVE)
        row = await cursor.fetchone()
        active = int(row[0]) if row else 0
        if self._allows(ended, more, active):
            return True
        at = await database_clock(connection)
        await self._hold_back(connection, reaction, ended, active, at)
        return False

    async def _hold_back(
        self, connection: Connection, reaction: Reaction, ended: int, active: int, at: datetime
    ) -> None:
        policy = await self._policies.read(connection)
        until = policy.held_back.get(reaction.rule)
        if until is not None and until > at:
            return
        command = HoldBack(rule=reaction.rule, families=ended, active=active, until=at + _REST)
        await self._policies.append(connection, command, self._rules, _cause(reaction))


async def _family_command(
    connection: Connection, response: Response, family_id: FamilyId
) -> FamilyCommand | None:
    """The command that a response is; None where the family does not exist or is over."""
    match response:
        case Response.STEP_UP:
            return RequireStepUp()
        case Response.REVOKE_SESSION:
            loaded, _ = await load_families(connection, [family_id])
            found = loaded.get(family_id)
            if found is None:
                return None
            return EndSession(found.family.sessions[0].session_id, EndReason.RULE)
        case Response.REVOKE_FAMILY:
            return RevokeFamily(EndReason.RULE)
        case _:
            return None


def _is_about_all(reaction: Reaction) -> bool:
    return reaction.response is Response.REVOKE_ALL


def _cause(reaction: Reaction) -> Cause:
    return Cause(
        Actor(ActorKind.RULE, reaction.rule), reaction.correlation_id, reaction.causation_id
    )
