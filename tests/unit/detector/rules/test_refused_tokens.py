"""Tokens that were refused: replaced before, or never issued."""

from detector.observations import Kind
from domain.detection import Response, Severity
from tests.unit.detector.builders import TOKYO
from tests.unit.detector.family_in_use import codes, in_use, responses, rule_named


def test_a_replaced_token_ends_the_family() -> None:
    family = in_use(rule_named("refresh-token-reuse"))

    found = family.refresh(kind=Kind.REUSE)

    assert responses(found) == [("refresh-token-reuse", Response.REVOKE_FAMILY)]
    assert found[0].severity is Severity.CRITICAL


def test_it_says_what_was_different_about_who_presented_it() -> None:
    family = in_use(rule_named("refresh-token-reuse"), cookie="mine")

    found = family.refresh(TOKYO, kind=Kind.REUSE, cookie="thief's")

    assert codes(found) == {"replaced_token", "other_device", "other_network"}


def test_a_token_that_was_never_issued_alerts() -> None:
    family = in_use(rule_named("future-generation"))

    found = family.refresh(kind=Kind.UNRECOGNISED)

    assert responses(found) == [("future-generation", Response.ALERT)]
    assert found[0].severity is Severity.HIGH


def test_neither_says_anything_of_ordinary_refreshes() -> None:
    family = in_use(rule_named("refresh-token-reuse"), rule_named("future-generation"))

    assert family.use(20) == []
