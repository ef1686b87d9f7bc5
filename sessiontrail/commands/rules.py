"""``sessiontrail rules``: the detection rules, listed and described."""

from typing import Annotated

import typer
from rich.table import Table

from detector.rule import Rule
from detector.rulebook import rulebook
from sessiontrail.commands.context import CommandError, print_table, say
from sessiontrail.rule_pages import rules_page

app = typer.Typer(help="List and describe the detection rules.", no_args_is_help=True)


@app.command("list")
def list_rules() -> None:
    """List the rules with their defaults."""
    table = Table("rule", "looks for", "about", "severity", "response", "ATT&CK")
    for rule in rulebook().by_name.values():
        about = rule.about
        table.add_row(
            about.name,
            about.title,
            about.subject.value,
            about.severity.value,
            about.response.value,
            ", ".join(about.techniques),
        )
    print_table(table)


@app.command()
def show(name: Annotated[str, typer.Argument(help="The rule's name")]) -> None:
    """Describe one rule: what, why, who else looks like that, and its thresholds."""
    about = _rule(name).about
    say(f"{about.name} (version {about.version}): {about.title}")
    say(f"Looks for: {about.looks_for}")
    say(f"Why: {about.why}")
    say(f"ATT&CK: {', '.join(about.techniques) or 'none'}")
    for false_positive in about.false_positives:
        say(f"Also looks like that: {false_positive}")
    say(f"Severity {about.severity.value}, response {about.response.value}, unless configured")
    for parameter, value in about.parameters.items():
        say(f"  {parameter} = {value}")


@app.command()
def page() -> None:
    """Print the page of all rules, as in docs/rules.md."""
    say(rules_page(rulebook()).rstrip("\n"))


def _rule(name: str) -> Rule:
    found = rulebook().by_name.get(name)
    if found is None:
        msg = f"there is no rule {name}; the rules are {', '.join(rulebook().by_name)}"
        raise CommandError(msg)
    return found
