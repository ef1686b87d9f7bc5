"""``sessiontrail detect --backtest``: stored history through the rules, changing nothing."""

from datetime import datetime
from pathlib import Path

from rich.table import Table

from detector.backtest import JUDGED_BY, Backtest, BacktestReport
from detector.policy import RulesInForce
from detector.reading import EventReader, types_of
from detector.rulebook import rulebook
from domain.detection_policy import DetectionPolicy
from domain.detection_work import Stage
from domain.events.registry import UnknownEventError
from infra.detection_policy_store import DetectionPolicyStore
from infra.history import count_history, read_history
from infra.settings import load_settings
from infra.user_agents import UserAgents
from sessiontrail.commands.context import CommandError, print_table, run, say, store
from sessiontrail.commands.progress import progress_bar
from sessiontrail.commands.simulate import policy_from
from sessiontrail.evidence import geoip
from sessiontrail.store import Store


def backtest(policy: Path | None, since: datetime | None) -> None:
    """Play the log through the rules and print what they would have found.

    Args:
        policy: A policy file; None takes the policy in force.
        since: From when on; None is the beginning.
    """

    async def work() -> BacktestReport:
        async with store() as opened:
            return await played(opened, await _policy(opened, policy), since)

    try:
        _print(run(work))
    except UnknownEventError as error:
        raise CommandError(str(error)) from error


async def _policy(opened: Store, file: Path | None) -> DetectionPolicy:
    if file is not None:
        return policy_from(file).detection
    return await DetectionPolicyStore(opened.engine, opened.data_keys).current()


async def played(opened: Store, policy: DetectionPolicy, since: datetime | None) -> BacktestReport:
    """Play a store's log through the rules, from an instant on.

    Args:
        opened: The store; nothing in it is changed.
        policy: What to play under.
        since: From when on; None is the beginning.
    """
    reader = EventReader(UserAgents(), geoip(load_settings()))
    test = Backtest(RulesInForce(rulebook(), policy), reader)
    types = {event.TYPE for stage in Stage for event in types_of(stage)}
    types |= {event.TYPE for event in JUDGED_BY}
    total = await count_history(opened.engine, types, since)
    done = 0
    with progress_bar("back-testing") as progress:
        async for page in read_history(opened.engine, opened.data_keys, types, since):
            for event in page:
                test.take(event)
            done += len(page)
            progress(done, total)
    return test.report()


def _print(report: BacktestReport) -> None:
    say(f"{report.events:,} events of {report.users:,} users over {report.days:.1f} days")
    table = Table("rule", "findings", "alerts", "confirmed", "refuted", "precision")
    for name, record in sorted(report.rules.items()):
        table.add_row(
            name,
            f"{record.findings:,}",
            f"{record.alerts:,}",
            f"{record.confirmed:,}",
            f"{record.refuted:,}",
            _share(record.precision),
        )
    print_table(table)
    say(
        f"Of {report.true_positives:,} true positives {report.caught:,} are found: "
        f"recall {_share(report.recall)}"
    )
    if report.alerts_per_1000_users_a_day is not None:
        say(f"{report.alerts_per_1000_users_a_day:.2f} alerts for 1,000 users a day")
    say("Nothing was changed.")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
