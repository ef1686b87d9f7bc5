"""What the kinds of alerts are called."""

from api.ports import Services
from domain.alert_reports import REPORTED

_OTHERS = {
    REPORTED: ("The user says it wasn’t them", "The user says that a sign-in was not theirs")
}
"""Kinds that no rule raises: a title, and what it is about."""


def titles(services: Services) -> dict[str, str]:
    """Every kind that there is, by what it is called."""
    described = services.rulebook.described()
    named = {name: rule.title for name, rule in described.items()}
    named |= {name: title for name, (title, _) in _OTHERS.items()}
    return dict(sorted(named.items(), key=lambda each: each[1]))


def title_of(services: Services, rule: str) -> str:
    """A few words."""
    described = services.rulebook.described().get(rule)
    return described.title if described else _OTHERS.get(rule, (rule, ""))[0]


def subject_of(services: Services, rule: str) -> str:
    """What it is about, in a sentence."""
    described = services.rulebook.described().get(rule)
    return described.looks_for if described else _OTHERS.get(rule, ("", rule))[1]
