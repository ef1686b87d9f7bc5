"""Every fact that a rule can name has words."""

import ast
from pathlib import Path

from api.console.facts import WORDS

DETECTOR = Path(__file__).parents[3] / "detector"


def codes_in(tree: ast.AST) -> set[str]:
    """The codes that are written out where a fact is made."""
    return {
        str(call.args[0].value)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "Fact"
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }


def test_every_fact_is_told_in_words() -> None:
    codes = set[str]()
    for file in DETECTOR.rglob("*.py"):
        codes |= codes_in(ast.parse(file.read_text(encoding="utf-8")))

    assert len(codes) > 30
    assert codes - set(WORDS) == set()
