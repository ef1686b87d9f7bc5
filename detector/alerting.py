"""From findings to alerts and reactions, within one batch."""

from collections.abc import Sequence

from detector.findings import Finding
from detector.groups import GroupState, Raise, Repeat, group_key, grouped
from detector.loading import hold
from detector.memory import Key, Memory, Scope
from detector.ports import Work
from domain.detection import Outcome
from domain.detection_work import AlertChange, Reacted, Reaction
from domain.events.alerts import (
    AlertAnswered,
    AlertEvent,
    AlertRaised,
    AlertRepeated,
    WeighedFact,
)
from domain.events.envelope import RecordedEvent
from domain.events.personal import Personal

_MICROSECONDS = 1_000_000


class Alerting:
    """Groups a batch's findings, has the strict ones acted on, and puts all on record."""

    def __init__(self, work: Work, memory: Memory, policy_version: int) -> None:
        """Work within a batch.

        Args:
            work: The batch.
            memory: Its states; those of the groups are loaded into it.
            policy_version: Of the policy that the findings were made under.
        """
        self._work = work
        self._memory = memory
        self._policy_version = policy_version

    async def tell(self, findings: Sequence[tuple[RecordedEvent, Finding]]) -> None:
        """Put findings on record, in order, and react to them."""
        if not findings:
            return
        await self._load_groups(findings)
        reacted = await self._react(findings)
        changes = []
        for (event, finding), outcome in zip(findings, reacted, strict=True):
            acted = outcome is not None and outcome.outcome is Outcome.DONE
            record = self._group(finding, acted=acted)
            if record is not None:
                changes.append(self._change(event, record, outcome))
        await self._work.put_alerts(changes)

    async def _react(
        self, findings: Sequence[tuple[RecordedEvent, Finding]]
    ) -> list[Reacted | None]:
        """What became of each finding's response; None where there was nothing to do."""
        acting = [(event, finding) for event, finding in findings if _acts(finding)]
        outcomes = iter(
            await self._work.react([_reaction(event, finding) for event, finding in acting])
        )
        return [next(outcomes) if _acts(finding) else None for _, finding in findings]

    async def _load_groups(self, findings: Sequence[tuple[RecordedEvent, Finding]]) -> None:
        keys: set[Key] = {(Scope.GROUP, group_key(finding)) for _, finding in findings}
        await hold(self._memory, self._work, keys)

    def _group(self, finding: Finding, *, acted: bool) -> Raise | Repeat | None:
        key: Key = (Scope.GROUP, group_key(finding))
        state, record = grouped(self._memory.get(key, GroupState), finding, acted=acted)
        self._memory.put(key, state)
        return record

    def _change(
        self, event: RecordedEvent, record: Raise | Repeat, outcome: Reacted | None
    ) -> AlertChange:
        finding = record.finding
        events: list[tuple[AlertEvent, Personal | None]]
        match record:
            case Raise():
                events = [(self._raised(finding), _personal(event, finding))]
            case Repeat():
                events = [(_repeated(finding, record.count), _personal(event, finding))]
        if outcome is not None:
            answered = AlertAnswered(
                response=finding.response, outcome=outcome.outcome, families=outcome.families
            )
            events.append((answered, None))
        return AlertChange(
            alert_id=record.alert_id,
            subject_id=finding.user_id,
            actor=finding.rule,
            events=events,
            causation_id=event.event_id,
            correlation_id=event.cause.correlation_id,
        )

    def _raised(self, finding: Finding) -> AlertRaised:
        return AlertRaised(
            user_id=finding.user_id,
            rule=finding.rule,
            rule_version=finding.rule_version,
            policy_version=self._policy_version,
            severity=finding.severity,
            response=finding.response,
            family_id=finding.family_id,
            trigger_id=finding.event_id,
            happened_at_us=_microsecond(finding),
            score_m=_thousandths(finding),
            facts=_weights(finding),
            count=finding.count,
        )


def _acts(finding: Finding) -> bool:
    return finding.response.acts and finding.user_id is not None


def _reaction(event: RecordedEvent, finding: Finding) -> Reaction:
    if finding.user_id is None:
        msg = f"{finding.rule} has nobody to act on"
        raise ValueError(msg)
    return Reaction(
        rule=finding.rule,
        response=finding.response,
        user_id=finding.user_id,
        family_id=finding.family_id,
        causation_id=event.event_id,
        correlation_id=event.cause.correlation_id,
    )


def _repeated(finding: Finding, count: int) -> AlertRepeated:
    return AlertRepeated(
        trigger_id=finding.event_id,
        happened_at_us=_microsecond(finding),
        severity=finding.severity,
        response=finding.response,
        score_m=_thousandths(finding),
        facts=_weights(finding),
        count=count,
    )


def _thousandths(finding: Finding) -> int | None:
    return None if finding.score is None else round(finding.score * 1000)


def _weights(finding: Finding) -> list[WeighedFact]:
    return [WeighedFact(fact.code, fact.weight) for fact in finding.facts]


def _microsecond(finding: Finding) -> int:
    return round(finding.second * _MICROSECONDS)


def _personal(event: RecordedEvent, finding: Finding) -> Personal | None:
    """What was seen and expected; the client too, where the event names one."""
    opened = event.personal if isinstance(event.personal, Personal) else None
    texts = {
        fact.code: f"{fact.value} (usual: {fact.usual})" if fact.usual else fact.value
        for fact in finding.facts
        if fact.value or fact.usual
    }
    # What seals an alert about many is no one person's key: no client of theirs belongs there.
    client = opened.client if opened is not None and finding.user_id is not None else None
    networks = opened.networks if opened is not None else None
    if not texts and client is None and networks is None:
        return None
    return Personal(client=client, networks=networks, facts=texts or None)
