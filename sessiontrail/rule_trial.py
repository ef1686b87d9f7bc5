"""Tries other settings of a rule on the log's last days; in a process of its own, at leisure.

``python -m sessiontrail.rule_trial`` reads a ``TrialAsked`` and writes a ``RuleTrial``, as JSON.
What a refresh waits for must not share a processor's turn with 20,000 events.
"""

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec.structs import replace

from detector.backtest import JUDGED_BY, Backtest, BacktestReport, RuleRecord
from detector.policy import RulesInForce
from detector.reading import EventReader, types_of
from detector.rulebook import rulebook
from domain.detection_policy import DetectionPolicy
from domain.detection_work import Stage
from domain.rule_trials import RuleTrial, TrialAsked, TrialRecord
from infra.detection_policy_store import DetectionPolicyStore
from infra.history import count_history, read_history
from infra.settings import load_settings
from infra.user_agents import UserAgents
from sessiontrail.evidence import geoip
from sessiontrail.keys import key_ring
from sessiontrail.store import Store, open_store

_LONGEST = timedelta(days=30)
_SHORTEST = timedelta(hours=1)
_MOST_EVENTS = 20_000
_NICE = 10


async def tried(opened: Store, asked: TrialAsked, now: datetime) -> RuleTrial:
    """Play the last days twice: under the policy in force, and with the rule set otherwise."""
    policy = await DetectionPolicyStore(opened.engine, opened.data_keys).current()
    other = replace(policy, rules={**policy.rules, asked.rule: asked.settings})
    tests = [_test(policy), _test(other)]
    types = {event.TYPE for stage in Stage for event in types_of(stage)}
    types |= {event.TYPE for event in JUDGED_BY}
    since = await _since(opened, types, now)
    async for page in read_history(opened.engine, opened.data_keys, types, since):
        for event in page:
            for test in tests:
                test.take(event)
    reports = [test.report() for test in tests]
    return RuleTrial(
        reports[0].events,
        reports[0].days,
        reports[0].users,
        *(_record(report, asked.rule) for report in reports),
    )


async def _since(opened: Store, types: set[str], now: datetime) -> datetime:
    """As far back as there are not too many events."""
    length = _LONGEST
    while length > _SHORTEST:
        if await count_history(opened.engine, types, now - length) <= _MOST_EVENTS:
            break
        length /= 2
    return now - length


def _test(policy: DetectionPolicy) -> Backtest:
    reader = EventReader(UserAgents(), geoip(load_settings()))
    return Backtest(RulesInForce(rulebook(), policy), reader)


def _record(report: BacktestReport, rule: str) -> TrialRecord:
    found = report.rules.get(rule, RuleRecord())
    return TrialRecord(found.findings, found.alerts, found.confirmed, found.refuted)


async def _main() -> None:
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=TrialAsked)
    settings = load_settings()
    conninfo = settings.database_url
    if conninfo is None:
        msg = "whoever starts a trial names the database"
        raise RuntimeError(msg)
    async with open_store(settings, conninfo, key_ring(settings)) as opened:
        trial = await tried(opened, asked, datetime.now(UTC))
    sys.stdout.buffer.write(msgspec.json.encode(trial))


if __name__ == "__main__":
    os.nice(_NICE)
    asyncio.run(_main())
