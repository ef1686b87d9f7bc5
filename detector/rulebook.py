"""All rules: every module in ``detector.rules`` holds one, named ``RULE``."""

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType

import detector.rules
from detector.observations import Kind
from detector.rule import CrowdRule, Rule, UserRule


class Rulebook:
    """Rules by name, and by what they want to be asked about."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        """Hold these rules.

        Raises:
            ValueError: Two of them have one name.
        """
        by_name: dict[str, Rule] = {}
        for rule in sorted(rules, key=lambda rule: rule.about.name):
            if rule.about.name in by_name:
                msg = f"two rules are named {rule.about.name}"
                raise ValueError(msg)
            by_name[rule.about.name] = rule
        self.by_name: Mapping[str, Rule] = MappingProxyType(by_name)
        users = [rule for rule in by_name.values() if isinstance(rule, UserRule)]
        crowds = [rule for rule in by_name.values() if isinstance(rule, CrowdRule)]
        self.user_rules = {
            kind: tuple(rule for rule in users if kind in rule.kinds) for kind in Kind
        }
        self.quiet_rules = {
            kind: tuple(rule for rule in rules_of_kind if rule.quiet)
            for kind, rules_of_kind in self.user_rules.items()
        }
        self.crowd_rules = {
            kind: tuple(rule for rule in crowds if kind in rule.kinds) for kind in Kind
        }


@cache
def rulebook() -> Rulebook:
    """Every rule that this build has."""
    modules = pkgutil.iter_modules(detector.rules.__path__, detector.rules.__name__ + ".")
    return Rulebook(importlib.import_module(module.name).RULE for module in modules)
