"""The detection policy: read as the fold of its own short stream, and appended to.

There is no table for it. What was folded once is kept, so that a read costs one look at the end of
the stream.
"""

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy.ext.asyncio import AsyncEngine

from domain.detection_policy import NO_POLICY, DetectionPolicy, evolve_detection_policy
from domain.detection_policy_decisions import (
    AllowList,
    DetectionPolicyCommand,
    DetectionPolicyDecision,
    RemoveEntry,
    RuleParameters,
    decide_detection_policy,
)
from domain.events.detection_policies import DetectionPolicyEvent
from domain.events.envelope import Cause
from domain.events.personal import Personal, PersonalPart, Sealed
from domain.events.registry import decode_event
from domain.ids import DETECTION_POLICY_STREAM, SYSTEM_SUBJECT, UserId
from domain.refusals import Refusal
from infra.event_rows import StreamConflictError
from infra.event_store import append_stream, database_clock
from infra.postgres import Connection, transaction
from infra.sealing import DataKey, DataKeys
from infra.subject_keys import hold_subject_keys, subject_keys, system_key

_ATTEMPTS = 5

# Own events may still be rolled back: they are folded, and not kept.
_SINCE = """
SELECT type, schema_version, occurred_at, data, event_id, personal,
       subject_id, transaction_id IS NOT DISTINCT FROM pg_current_xact_id_if_assigned()
  FROM events
 WHERE hashtextextended(stream, 0) = hashtextextended(%(stream)s, 0) AND stream = %(stream)s
   AND version > %(version)s
 ORDER BY version
"""


class DetectionPolicyStore:
    """``api.ports.DetectionPolicies`` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine, data_keys: DataKeys) -> None:
        """Work through this pool, with the service's own data key."""
        self._engine = engine
        self._data_keys = data_keys
        self._kept = NO_POLICY

    async def current(self) -> DetectionPolicy:
        """The policy in force, its personal parts open.

        Raises:
            UnknownEventError: A newer build wrote to it.
            StoreUnavailableError: The database cannot serve.
        """
        async with transaction(self._engine) as connection:
            return await self.read(connection)

    async def read(self, connection: Connection) -> DetectionPolicy:
        """The policy as a transaction sees it.

        Raises:
            UnknownEventError: A newer build wrote to it.
        """
        policy = self._kept
        cursor = await connection.execute(
            _SINCE, {"stream": DETECTION_POLICY_STREAM, "version": policy.version}, binary=True
        )
        records = await cursor.fetchall()
        if not records:
            return policy
        subjects = {record[-2] for record in records} - {None}
        keys = await subject_keys(connection, subjects, self._data_keys)
        lasting = True
        for record in records:
            policy = _folded(policy, record[:-1], keys)
            lasting = lasting and not record[-1]
            if lasting and policy.version > self._kept.version:
                self._kept = policy
        return policy

    async def command(
        self, command: DetectionPolicyCommand, rules: RuleParameters, cause: Cause
    ) -> DetectionPolicyDecision:
        """Carry out a command; decide again where another one was faster.

        Args:
            command: What is asked for.
            rules: The rules that there are: by name, each with its parameters and their defaults.
            cause: By whom and in which request.

        Raises:
            ConcurrencyError: The policy kept moving.
            StoreUnavailableError: The database cannot serve.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with transaction(self._engine) as connection:
                    return await self.append(connection, command, rules, cause)
            except StreamConflictError:
                if attempt == _ATTEMPTS:
                    raise
        msg = "unreachable: the last attempt returns or raises"
        raise AssertionError(msg)

    async def append(
        self,
        connection: Connection,
        command: DetectionPolicyCommand,
        rules: RuleParameters,
        cause: Cause,
    ) -> DetectionPolicyDecision:
        """Carry out a command within a transaction of the caller's.

        Raises:
            StreamConflictError: Another command was faster; the transaction is lost.
        """
        policy = await self.read(connection)
        at = await database_clock(connection)
        decision = decide_detection_policy(policy, command, rules, at)
        if not decision.events:
            return decision
        subject = _subject_of(command)
        data_key = await self._key_of(connection, subject)
        if data_key is None:
            return DetectionPolicyDecision(refusal=Refusal.SUBJECT_ERASED)
        await append_stream(
            connection,
            DETECTION_POLICY_STREAM,
            policy.version,
            decision.events,
            cause,
            at,
            subject_id=subject,
            data_key=data_key,
        )
        return decision

    async def forget(self, user_id: UserId, cause: Cause) -> int:
        """Remove what the allow-list says of a user who was erased; how many entries.

        Their reasons do not open any more; with the entries they leave every process's memory.

        Raises:
            ConcurrencyError: The policy kept moving.
            StoreUnavailableError: The database cannot serve.
        """
        theirs = [
            entry.entry_id
            for entry in (await self.current()).entries.values()
            if entry.user_id == user_id
        ]
        removed = [await self.command(RemoveEntry(each), {}, cause) for each in theirs]
        return sum(decision.refusal is None for decision in removed)

    async def _key_of(self, connection: Connection, subject: UserId) -> DataKey | None:
        """The key that seals what is said of a subject, held; None where they were erased."""
        if subject == SYSTEM_SUBJECT:
            return await system_key(connection, self._data_keys)
        wrapped = (await hold_subject_keys(connection, [subject])).get(subject)
        return None if wrapped is None else self._data_keys.unwrap(wrapped, subject)


def _subject_of(command: DetectionPolicyCommand) -> UserId:
    """Whose key seals what a command says; the service's own where it is about no user."""
    about = command.user_id if isinstance(command, AllowList) else None
    return SYSTEM_SUBJECT if about is None else about


def _folded(
    policy: DetectionPolicy, record: tuple[Any, ...], keys: Mapping[UserId, DataKey]
) -> DetectionPolicy:
    """The policy with one stored event folded in; Any: a row as it came."""
    type_, schema_version, at, data, event_id, box, subject = record
    key = keys.get(subject)
    event = cast("DetectionPolicyEvent", decode_event(type_, schema_version, data))
    personal: PersonalPart = None
    if box is not None:
        personal = Personal() if key is None else key.open(Sealed(event_id, box))
    return evolve_detection_policy(policy, event, personal, at)
