"""The tables that a scored playback is shown in."""

from msgspec.structs import replace
from rich.table import Table

from detector.world.recall import BASELINE_FACTOR, BUDGETS
from detector.world.scoring import Scores


def attack_table(scores: Scores) -> Table:
    """Attacks caught, by kind and variant."""
    table = Table(title=f"Attacks caught, {_with_geo(scores)}")
    for name in ("attack", "variant"):
        table.add_column(name)
    for name in ("attacks", "in time", "allowed", "ever", "requests", "seconds"):
        table.add_column(name, justify="right")
    for row in scores.attacks:
        table.add_row(
            row.kind.value,
            row.variant,
            str(row.attacks),
            _share(row.in_time, row.attacks),
            row.limit,
            _share(row.ever, row.attacks),
            _number(row.median_requests),
            _number(row.median_seconds),
        )
    return table


def trap_table(scores: Scores) -> Table:
    """False alarms, by trap."""
    table = Table(title=f"The honest, {_with_geo(scores)}")
    table.add_column("label")
    for name in (
        "users",
        "families",
        "revoked",
        "stepped up",
        "alerts",
        "per 1,000 users a day",
        "per 1,000 sign-ins",
    ):
        table.add_column(name, justify="right")
    table.add_column("rules")
    for row in (*scores.false_alarms, replace(scores.collateral, label="victims, afterwards")):
        table.add_row(
            row.label,
            str(row.users),
            str(row.families),
            str(row.revoked),
            str(row.stepped_up),
            str(row.alerts),
            f"{row.alerts_per_1_000_a_day:.2f}",
            f"{row.alerts_per_1_000_sign_ins:.2f}",
            ", ".join(f"{rule} {count}" for rule, count in sorted(row.rules.items())),
        )
    return table


def recall_table(scores: Scores) -> Table:
    """Recall of stolen sign-ins at each budget, beside the baseline at three times as much."""
    table = Table(
        title=f"Recall of stolen sign-ins by share challenged, beside new country or ASN, "
        f"{_with_geo(scores)}"
    )
    table.add_column("attack")
    table.add_column("sign-ins", justify="right")
    for budget in BUDGETS:
        table.add_column(f"{budget:.1%}", justify="right")
        table.add_column(f"baseline {budget * BASELINE_FACTOR:.1%}", justify="right")
    rows = scores.recall
    for start in range(0, len(rows), len(BUDGETS)):
        of_kind = rows[start : start + len(BUDGETS)]
        cells = []
        for row in of_kind:
            cells += [f"{row.recall:.3f} ({row.low:.3f}–{row.high:.3f})", f"{row.baseline:.3f}"]
        kind = of_kind[0].kind
        table.add_row(kind.value if kind else "all", str(of_kind[0].sign_ins), *cells)
    return table


def summary(scores: Scores) -> str:
    """The headline figures in one line."""
    everybody = scores.false_alarms[0]
    return (
        f"{everybody.revoked} of {everybody.families} honest families revoked "
        f"({everybody.revoked_per_10_000:.1f} per 10,000); "
        f"{everybody.alerts_per_1_000_a_day:.2f} alerts per 1,000 honest users a day"
    )


def _with_geo(scores: Scores) -> str:
    return "with geo data" if scores.has_geo else "without geo data"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
