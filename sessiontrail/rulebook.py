"""The detector's rules, as the HTTP layer describes them."""

from collections.abc import Mapping
from functools import cache

from api.ports import DescribedRule
from detector.rule import Rule
from detector.rulebook import rulebook


class DescribedRules:
    """``api.ports.Rulebook`` over the rules of this build."""

    def described(self) -> Mapping[str, DescribedRule]:
        """See ``api.ports.Rulebook.described``."""
        return _described()


@cache
def _described() -> Mapping[str, DescribedRule]:
    return {name: _describe(rule) for name, rule in rulebook().by_name.items()}


def _describe(rule: Rule) -> DescribedRule:
    about = rule.about
    return DescribedRule(
        name=about.name,
        version=about.version,
        title=about.title,
        looks_for=about.looks_for,
        why=about.why,
        techniques=about.techniques,
        false_positives=about.false_positives,
        severity=about.severity,
        response=about.response,
        parameters=about.parameters,
    )
