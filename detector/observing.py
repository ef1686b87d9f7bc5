"""One observation through crowd and rules, in order: what player, back-test and worker all do."""

from msgspec.structs import replace

from detector.crowd import crowd_keys, take_in
from detector.crowd_context import CrowdContext
from detector.findings import Finding
from detector.judging import Judged, judge, judge_crowd
from detector.memory import Key, Memory, Scope
from detector.observations import Kind, Observation
from detector.policy import RulesInForce
from detector.profile import NOBODY, FamilyTrace, UserProfile


def user_keys(seen: Observation) -> list[Key]:
    """The states that judging an observation of a user needs."""
    keys: list[Key] = []
    if seen.user_id is not None:
        keys.append((Scope.PROFILE, seen.user_id))
    if seen.family_id is not None:
        keys.append((Scope.TRACE, seen.family_id))
    return keys


def observe_crowd(
    memory: Memory, seen: Observation, rules: RulesInForce
) -> tuple[CrowdContext | None, tuple[Finding, ...]]:
    """Let the crowd take an observation in; ``memory`` holds the states of ``crowd_keys``."""
    context, sighting = take_in(memory, seen)
    return context, () if sighting is None else judge_crowd(sighting, rules)


def observe_user(
    memory: Memory,
    seen: Observation,
    crowd: CrowdContext | None,
    rules: RulesInForce,
) -> tuple[Finding, ...]:
    """Judge an observation of a user; ``memory`` holds the states of ``user_keys``."""
    if seen.user_id is None:
        return ()
    profile_key: Key = (Scope.PROFILE, seen.user_id)
    trace_key: Key = (Scope.TRACE, seen.family_id or "")
    profile = memory.get(profile_key, UserProfile) or NOBODY
    trace = memory.get(trace_key, FamilyTrace) if seen.family_id is not None else None
    judged = judge(profile, trace, seen, crowd, rules)
    _remember(memory, seen, profile_key, trace_key, profile, judged)
    return judged.findings


def _remember(
    memory: Memory,
    seen: Observation,
    profile_key: Key,
    trace_key: Key,
    before: UserProfile,
    judged: Judged,
) -> None:
    if judged.profile is not before:
        memory.put(profile_key, judged.profile)
    if seen.family_id is not None:
        if judged.trace is None:
            memory.forget(trace_key)
        else:
            memory.put(trace_key, judged.trace)


def observe(memory: Memory, seen: Observation, rules: RulesInForce) -> list[Finding]:
    """Everything that one observation leads to, where one process sees the whole log in order."""
    context, crowd_findings = observe_crowd(memory, seen, rules)
    findings = [*crowd_findings, *observe_user(memory, seen, context, rules)]
    for finding in tuple(findings):
        told = as_seen_by_the_crowd(finding, seen)
        if told is not None:
            findings.extend(observe_crowd(memory, told, rules)[1])
    return findings


def as_seen_by_the_crowd(finding: Finding, seen: Observation) -> Observation | None:
    """A finding about a user as an observation; None for one about a crowd."""
    if finding.user_id is None or seen.kind is Kind.FOUND:
        return None
    return replace(
        seen,
        kind=Kind.FOUND,
        rule=finding.rule,
        response=finding.response,
        failures=None,
    )


__all__ = ["crowd_keys", "observe", "observe_crowd", "observe_user", "user_keys"]
