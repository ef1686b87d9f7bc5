"""``sessiontrail rules`` as it is typed."""

import pytest
from typer.testing import CliRunner

from detector.rulebook import rulebook
from sessiontrail.commands.context import CommandError
from sessiontrail.commands.rules import app
from sessiontrail.rule_pages import rules_page


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_list_names_every_rule_with_its_response() -> None:
    printed = run("list")

    for rule in rulebook().by_name.values():
        (line,) = [each for each in printed.splitlines() if f"│ {rule.about.name} " in each]
        assert rule.about.response.value in line
        assert rule.about.title in line


@pytest.mark.parametrize("name", list(rulebook().by_name))
def test_show_says_all_that_a_rule_says_of_itself(name: str) -> None:
    about = rulebook().by_name[name].about

    printed = run("show", name)

    assert printed.startswith(f"{name} (version {about.version}): ")
    for text in (about.looks_for, about.why, *about.techniques, *about.false_positives):
        assert text in printed
    for parameter, value in about.parameters.items():
        assert f"{parameter} = {value}" in printed


def test_a_rule_that_there_is_not_is_one_line_with_those_that_there_are() -> None:
    with pytest.raises(CommandError, match=r"there is no rule nonsense; .*refresh-token-reuse"):
        run("show", "nonsense")


def test_page_prints_the_page() -> None:
    assert run("page") == rules_page(rulebook())
