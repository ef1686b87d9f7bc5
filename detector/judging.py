"""``judge``: what the rules say of one observation of a user, and what is learned from it. Pure."""

from collections.abc import Sequence

import msgspec

from detector.crowd import CrowdSighting
from detector.crowd_context import CrowdContext
from detector.findings import Finding
from detector.learning import (
    begin_trace,
    cleared,
    doubted,
    follow,
    learn_sign_in,
    learn_whereabouts,
    set_aside,
    vouched_for,
    with_interval,
    with_late_retry,
    without_family,
)
from detector.observations import Kind, Observation
from detector.policy import RulesInForce, finding_of
from detector.profile import FamilyTrace, UserProfile
from detector.sighting import Sighting
from domain.detection import Response


class Judged(msgspec.Struct, frozen=True):
    """What an observation came to.

    Attributes:
        profile: Of the user, after it.
        trace: Of the family, after it; None where there is none, or no longer.
        findings: What the rules said, the strictest response first.
    """

    profile: UserProfile
    trace: FamilyTrace | None
    findings: tuple[Finding, ...]


def judge(
    profile: UserProfile,
    trace: FamilyTrace | None,
    seen: Observation,
    crowd: CrowdContext | None,
    rules: RulesInForce,
) -> Judged:
    """Ask the rules, then learn.

    The time it takes does not depend on how long the user has been known.

    Args:
        profile: What is known of the user.
        trace: What is known of the family.
        seen: What happened.
        crowd: What the crowd's counts say of it, for a sign-in.
        rules: The rules under the policy in force.
    """
    sighting = Sighting(seen, profile, trace, crowd)
    is_quiet = seen.kind is Kind.REFRESH and sighting.is_quiet
    asked = (rules.of_quiet if is_quiet else rules.of_users)[seen.kind]
    findings = []
    for rule, parameters in asked:
        signal = rule.look(sighting, parameters)
        if signal is not None:
            finding = finding_of(rule.about, signal, seen, rules.policy)
            if finding is not None:
                findings.append(finding)
    findings.sort(key=lambda finding: -finding.response.rank)
    return Judged(*_learn(sighting, findings), tuple(findings))


def judge_crowd(sighting: CrowdSighting, rules: RulesInForce) -> tuple[Finding, ...]:
    """Ask the crowd rules about counts that the observation is part of."""
    findings = []
    for rule, parameters in rules.of_crowds[sighting.seen.kind]:
        signal = rule.look(sighting, parameters)
        if signal is not None:
            finding = finding_of(rule.about, signal, sighting.seen, rules.policy)
            if finding is not None:
                findings.append(finding)
    return tuple(findings)


def _learn(
    sighting: Sighting, findings: Sequence[Finding]
) -> tuple[UserProfile, FamilyTrace | None]:
    seen, profile, trace = sighting.seen, sighting.profile, sighting.trace
    user_id = seen.user_id
    alerted = any(finding.response is not Response.RECORD for finding in findings)
    if user_id is None:
        return profile, trace
    match seen.kind:
        case Kind.SIGN_IN:
            features = None if sighting.crowd is None else sighting.crowd.counts.features
            if alerted:
                return set_aside(profile, seen, features), doubted(begin_trace(user_id, seen))
            return learn_sign_in(profile, seen, features), begin_trace(user_id, seen)
        case Kind.REFRESH | Kind.RETRY | Kind.LATE_RETRY:
            if trace is None:
                return profile, begin_trace(user_id, seen)
            return _learn_refresh(profile, trace, seen, alerted=alerted)
        case Kind.STEPPED_UP:
            learned = vouched_for(profile, str(seen.family_id), seen.second)
            learned = learn_whereabouts(learned, seen)
            return learned, trace if trace is None else cleared(follow(trace, seen), seen.second)
        case Kind.VERDICT:
            if seen.verdict is not None and seen.verdict.clears:
                learned = vouched_for(profile, str(seen.family_id), seen.second)
                return learned, trace if trace is None else cleared(trace, seen.second)
            return without_family(profile, str(seen.family_id)), trace
        case Kind.ENDED:
            return profile, None
        case _:
            return profile, trace


def _learn_refresh(
    profile: UserProfile, trace: FamilyTrace, seen: Observation, *, alerted: bool
) -> tuple[UserProfile, FamilyTrace]:
    if seen.kind is Kind.REFRESH:
        trace = with_interval(trace, seen.second)
    elif seen.kind is Kind.LATE_RETRY:
        trace = with_late_retry(trace, seen)
    trace = follow(trace, seen)
    if alerted:
        return set_aside(profile, seen), doubted(trace)
    return profile if trace.doubted else learn_whereabouts(profile, seen), trace
