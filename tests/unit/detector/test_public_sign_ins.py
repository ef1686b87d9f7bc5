"""The public RBA data set, in a file that the test makes: columns as published, rows made up."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from detector.public_sign_ins import ColumnsError, PublicSignIn, PublicSignIns, read_rows
from domain.evidence import Network
from sessiontrail.cli import app
from sessiontrail.commands.context import CommandError
from tests.unit.simulation.builders import as_told

COLUMNS = [
    "index", "Login Timestamp", "User ID", "Round-Trip Time [ms]", "IP Address", "Country",
    "Region", "City", "ASN", "User Agent String", "Browser Name and Version",
    "OS Name and Version", "Device Type", "Login Successful", "Is Attack IP",
    "Is Account Takeover",
]  # fmt: skip


def row(number: int, user: int, **told: str) -> list[str]:
    """A sign-in of a user from their own network, on their own browser."""
    cells = {
        "index": str(number),
        "Login Timestamp": f"2020-02-{1 + number // 1440:02}"
        f" {number // 60 % 24:02}:{number % 60:02}:30.772",
        "User ID": str(-4_324_475_583_306_591_935 + user),
        "Round-Trip Time [ms]": "",
        "IP Address": f"10.{user // 200}.{user % 200}.8",
        "Country": "NO",
        "Region": "Oslo County",
        "City": "Oslo",
        "ASN": str(29_695 + user % 7),
        "User Agent String": f"Mozilla/5.0 agent {user % 3}",
        "Browser Name and Version": ["Firefox 20.0.0.1618", "Chrome 69.0", "Opera"][user % 3],
        "OS Name and Version": ["iOS 13.4", "Android 4.1", "Linux"][user % 3],
        "Device Type": ["mobile", "mobile", "desktop"][user % 3],
        "Login Successful": "True",
        "Is Attack IP": "False",
        "Is Account Takeover": "False",
    }
    return list((cells | told).values())


def takeover(number: int, user: int) -> list[str]:
    return row(
        number,
        user,
        **{
            "IP Address": "203.0.113.9",
            "Country": "RO",
            "City": "-",
            "ASN": "9009",
            "User Agent String": "python-requests/2.31",
            "Browser Name and Version": "Python Requests 2.31",
            "OS Name and Version": "Other",
            "Device Type": "unknown",
            "Is Account Takeover": "True",
        },
    )


def world() -> Iterator[list[str]]:
    """A hundred users with thirty sign-ins each; four accounts are taken over at the end."""
    yield COLUMNS
    for number in range(3_000):
        yield row(number, number % 100)
    for number in range(4):
        yield takeover(3_000 + number, 10 * number)


def test_columns_are_found_by_name_wherever_they_are() -> None:
    turned = [cells[::-1] for cells in [COLUMNS, row(0, 5)]]

    (read,) = read_rows(turned)
    (straight,) = read_rows([COLUMNS, row(0, 5)])

    assert isinstance(read, PublicSignIn)
    assert read == straight
    assert (read.country, read.browser, read.is_takeover) == ("NO", "Opera", False)


@pytest.mark.parametrize("column", ["User ID", "Is Account Takeover", "Login Timestamp"])
def test_a_file_without_a_column_is_refused(column: str) -> None:
    with pytest.raises(ColumnsError, match=column):
        read_rows([[each for each in COLUMNS if each != column]])


@pytest.mark.parametrize(
    "cells",
    [
        row(0, 1, **{"Login Successful": "False"}),
        row(0, 1, **{"Login Timestamp": "yesterday"}),
        row(0, 1)[:5],
        [],
    ],
    ids=["failed", "no time", "short", "empty"],
)
def test_what_failed_or_cannot_be_read_is_passed_over(cells: list[str]) -> None:
    assert list(read_rows([COLUMNS, cells])) == [None]


def test_takeovers_rank_above_the_users_own_sign_ins() -> None:
    played = PublicSignIns(as_told)
    for each in read_rows(world()):
        played.take(each)

    report = played.report()

    assert (report.rows, report.users, report.first_sign_ins) == (3_004, 100, 100)
    assert (report.points.sign_ins, report.points.takeovers) == (3_004, 4)
    for ranking in (report.points, report.published, report.novelty):
        recall = ranking.recall(0.005)
        assert recall is not None
        assert recall.value == 1.0
        assert ranking.auc() == 1.0
    assert {size: each.sign_ins for size, each in report.by_history.items()} == {
        4: 100, 12: 100, 20: 100, 39: 0
    }  # fmt: skip


def test_a_takeover_is_not_learned_from() -> None:
    played = PublicSignIns(as_told)
    rows = [*world(), *(takeover(3_010 + n, 0) for n in range(3))]
    for each in read_rows(rows):
        played.take(each)

    recall = played.report().novelty.recall(0.01)

    assert recall is not None
    assert recall.value == 1.0


def test_the_columns_are_the_evidence() -> None:
    seen: list[Network] = []

    def watched(network: Network) -> Network:
        seen.append(network)
        return network

    played = PublicSignIns(watched)
    for each in read_rows([COLUMNS, row(0, 1, City="-"), row(1, 1, ASN="")]):
        played.take(each)

    assert [(each.prefix, each.country, each.city, each.asn) for each in seen] == [
        ("10.0.1.0/24", "NO", None, 29_696),
        ("10.0.1.0/24", "NO", "Oslo", None),
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    text = io.StringIO()
    csv.writer(text).writerows(world())
    path = tmp_path / "rba-dataset.csv"
    path.write_text(text.getvalue())
    return path


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["detect", *(str(each) for each in arguments)])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_the_command_prints_recall_auc_and_the_published_figures(file: Path) -> None:
    printed = run("--backtest", "--rba", file)

    assert "3,004 rows; 3,004 successful sign-ins of 100 users, 100 of them the first" in printed
    assert "4 takeovers" in printed
    for text in ("recall at 0.1% challenged", "recall at 2.0% challenged", "ROC-AUC", "after 39"):
        assert text in printed
    assert "1.000 [1.000, 1.000]" in printed
    assert "published: very targeted, 82.8 % blocked" in printed


def test_what_is_not_the_data_set_is_one_line(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")

    with pytest.raises(CommandError, match="no column 'Login Timestamp'"):
        run("--backtest", "--rba", other)
    with pytest.raises(CommandError, match="No such file"):
        run("--backtest", "--rba", tmp_path / "missing.csv")
    with pytest.raises(CommandError, match="go with --backtest"):
        run("--rba", file)
    with pytest.raises(CommandError, match="not --rba"):
        run("--backtest", "--rba", file, "--since", "2026-01-01")
