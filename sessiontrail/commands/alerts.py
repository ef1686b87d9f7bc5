"""``sessiontrail alerts``."""

from typing import Annotated

import typer
from rich.table import Table

from domain.alert import Alert, AlertStatus
from domain.alert_decisions import Resolve
from domain.alert_lists import AlertFilter
from domain.client import ClientContext
from domain.detection import Severity, Verdict
from domain.histories import History
from domain.ids import AlertId, alert_stream, parse_uuid
from domain.refusals import Refusal
from domain.texts import InvalidTextError, clean_comment
from infra.alert_commands import PostgresAlertCommands
from infra.alert_histories import StreamHistories
from infra.alert_queries import PostgresAlertQueries
from sessiontrail.commands.context import CommandError, operator_cause, print_table, run, say, store

app = typer.Typer(help="List, show and resolve alerts.", no_args_is_help=True)

_HISTORY_EVENTS = 200
_REFUSED = {
    Refusal.ALERT_RESOLVED: "it is resolved already",
    Refusal.SUBJECT_ERASED: "the user was erased: resolve it without a comment",
}


@app.command("list")
def list_alerts(
    status: Annotated[
        list[AlertStatus] | None,
        typer.Option(help="Any of these; repeat for several. By default open and acknowledged"),
    ] = None,
    severity: Annotated[Severity, typer.Option(help="This or worse")] = Severity.INFO,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many")] = 100,
) -> None:
    """List alerts, the worst first, and of those that are equally bad, the latest."""
    statuses = status or [AlertStatus.OPEN, AlertStatus.ACKNOWLEDGED]

    async def work() -> list[Alert]:
        async with store() as opened:
            wanted = AlertFilter(statuses=statuses, at_least=severity)
            page = await PostgresAlertQueries(opened.engine).page(wanted, limit=limit, after=None)
        return page.alerts

    table = Table("id", "severity", "rule", "status", "user", "count", "last seen", "done")
    for alert in run(work):
        table.add_row(
            alert.alert_id,
            alert.severity,
            alert.rule,
            alert.verdict or alert.status,
            alert.user_id or "",
            str(alert.count),
            alert.last_at.isoformat(timespec="seconds"),
            ", ".join(f"{answer.response} {answer.outcome}" for answer in alert.answers),
        )
    print_table(table)


@app.command()
def show(alert: Annotated[str, typer.Argument(help="Id of the alert")]) -> None:
    """Show an alert: its evidence, and what became of it through whom."""

    async def work() -> tuple[Alert, History]:
        alert_id = _alert_id(alert)
        async with store() as opened:
            found = await PostgresAlertQueries(opened.engine).alert(alert_id)
            if found is None:
                raise _unknown(alert)
            histories = StreamHistories(opened.engine, opened.data_keys)
            return found, await histories.last(alert_stream(alert_id), _HISTORY_EVENTS)

    found, history = run(work)
    _say_alert(found)
    say()
    table = Table("at", "what", "by", "comment")
    for entry in history.entries:
        table.add_row(
            entry.at.isoformat(timespec="seconds"),
            entry.type,
            entry.actor,
            entry.personal.comment or "",
        )
    print_table(table)


@app.command()
def resolve(
    alert: Annotated[str, typer.Argument(help="Id of the alert")],
    verdict: Annotated[Verdict, typer.Argument(help="What it was")],
    comment: Annotated[str | None, typer.Option(help="Why")] = None,
) -> None:
    """Judge an alert; the detector learns from the verdict."""
    try:
        text = None if comment is None else clean_comment(comment)
    except InvalidTextError as error:
        raise CommandError(str(error)) from error

    async def work() -> Alert | Refusal:
        async with store() as opened:
            commands = PostgresAlertCommands(opened.engine, opened.data_keys)
            return await commands.command(
                _alert_id(alert), Resolve(verdict, text), operator_cause()
            )

    resolved = run(work)
    if isinstance(resolved, Refusal):
        reason = _REFUSED.get(resolved)
        raise _unknown(alert) if reason is None else CommandError(f"{alert}: {reason}")
    say(f"Resolved {resolved.alert_id} as {verdict}.")


def _say_alert(alert: Alert) -> None:
    """Everything that is known of it but its history."""
    texts = alert.fact_texts if isinstance(alert.fact_texts, dict) else {}
    client = alert.client if isinstance(alert.client, ClientContext) else ClientContext()
    for name, value in (
        ("alert", alert.alert_id),
        ("rule", f"{alert.rule} (version {alert.rule_version})"),
        ("severity", alert.severity),
        ("response", alert.response),
        ("status", alert.status),
        ("verdict", alert.verdict),
        ("user", alert.user_id),
        ("family", alert.family_id),
        ("assignee", alert.assignee),
        ("count", alert.count),
        ("first seen", alert.first_at.isoformat(timespec="seconds")),
        ("last seen", alert.last_at.isoformat(timespec="seconds")),
        ("score", None if alert.score_m is None else alert.score_m / 1000),
        ("address", client.ip),
        ("user agent", client.user_agent),
    ):
        if value is not None:
            say(f"{name + ':':12}{value}")
    for fact in alert.facts:
        text = texts.get(fact.code)
        say(f"{'fact:':12}{fact.code} ({fact.weight}){': ' + text if text else ''}")
    for answer in alert.answers:
        say(f"{'done:':12}{answer.response}: {answer.outcome}, {answer.families} families")


def _alert_id(text: str) -> AlertId:
    parsed = parse_uuid(text)
    if parsed is None:
        msg = f"{text} is not an id"
        raise CommandError(msg)
    return AlertId(parsed)


def _unknown(text: str) -> CommandError:
    return CommandError(f"there is no alert {text}")
