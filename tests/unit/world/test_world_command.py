"""``sessiontrail world`` as it is typed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from detector.world.generator import generate
from detector.world.plan import World
from sessiontrail.commands.context import CommandError
from sessiontrail.commands.world import app

ARGUMENTS = ["generate", "--seed", "3", "--users", "60", "--days", "7", "--attacks", "1"]
WORLD = World(seed=3, users=60, days=7, attacks=1)


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=True)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_generate_prints_the_file() -> None:
    printed = run(*ARGUMENTS)

    assert printed.encode().splitlines() == list(generate(WORLD))


def test_generate_writes_the_same_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "world.jsonl"

    run(*ARGUMENTS, "--out", path)

    assert path.read_bytes().splitlines() == list(generate(WORLD))


def test_generate_without_geo_says_nowhere_where_addresses_are() -> None:
    assert '"geo"' not in run(*ARGUMENTS, "--no-geo")


def test_score_prints_a_table_for_attacks_traps_and_recall(tmp_path: Path) -> None:
    world, answers = played(tmp_path)

    printed = run("score", world, answers)

    for text in ("replay-asn-device", "honest:commute", "baseline 3.0%", "0 of "):
        assert text in printed


def test_score_prints_figures_as_json(tmp_path: Path) -> None:
    world, answers = played(tmp_path)

    figures = json.loads(run("score", world, answers, "--json"))

    assert figures["false_alarms"][0]["revoked"] == 0
    assert all(row["ever"] == 0 for row in figures["attacks"])


def test_files_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    world, answers = played(tmp_path)
    answers.write_text('{"line": 5, "result": "ok", "findings": []}\n')

    with pytest.raises(CommandError, match="answer 1 is about line 5"):
        run("score", world, answers)


def test_too_short_a_world_is_refused() -> None:
    with pytest.raises(CommandError, match="at least 7 days"):
        run("generate", "--days", "2")


def played(folder: Path) -> tuple[Path, Path]:
    """A world, and the answers of a detector that finds nothing."""
    world, answers = folder / "world.jsonl", folder / "answers.jsonl"
    lines = list(generate(WORLD))
    world.write_bytes(b"\n".join(lines) + b"\n")
    said = [
        f'{{"line":{number},"result":"ok","findings":[]}}' for number in range(1, len(lines) + 1)
    ]
    answers.write_text("\n".join(said) + "\n")
    return world, answers
