"""The documentation of the rules, made from what they say of themselves."""

from collections.abc import Iterator

from detector.rule import Description
from detector.rulebook import Rulebook

_HEAD = """# Detection rules

This page is made by `sessiontrail rules page` from what the rules say of themselves. Severity,
response and every threshold can be set for each rule (`PUT /v1/rules/{name}`); what comes from
allow-listed networks, autonomous systems and users is left alone. Each change is an event, so it
can be told which policy was in force when.

Responses, from the mildest: `record` puts a finding on record and tells nobody; `alert` tells an
analyst; `step_up` refuses the family's next refresh until the user proves themself again;
`revoke_session`, `revoke_family` and `revoke_all` end sessions. A rule may answer a milder or worse
case with another response than its default.
"""


def rules_page(rules: Rulebook) -> str:
    """The page, as Markdown."""
    return _HEAD + "".join(_section(rule.about) for rule in rules.by_name.values())


def _section(about: Description) -> str:
    return "\n" + "\n".join(_lines(about)) + "\n"


def _lines(about: Description) -> Iterator[str]:
    yield f"## {about.name}"
    yield ""
    yield f"**{about.title}.** {about.looks_for}"
    yield ""
    yield about.why
    yield ""
    yield f"- Severity `{about.severity.value}`, response `{about.response.value}`."
    if about.techniques:
        yield f"- ATT&CK: {', '.join(about.techniques)}."
    for false_positive in about.false_positives:
        yield f"- Also looks like that: {false_positive}"
    if about.parameters:
        yield ""
        yield "| parameter | default |"
        yield "|---|---|"
        for name, value in about.parameters.items():
            yield f"| `{name}` | {value} |"
