"""docs/detection.md and docs/rules.md say what the code does."""

import re
from pathlib import Path

import msgspec
import pytest

from detector.rulebook import rulebook
from detector.simulation.answers import played_line
from detector.simulation.policy_file import read_policy
from detector.simulation.requests import read_request
from detector.simulation.results import Result
from sessiontrail.rule_pages import rules_page
from tests.unit.simulation.builders import Playing

DOCS = Path(__file__).parents[2] / "docs"
_MARKED = re.compile(r"<!-- ([^\n]*): tested -->\n```jsonl?\n(.*?)```", re.DOTALL)


def examples() -> dict[str, str]:
    """The examples of docs/detection.md, by what they are said to be."""
    return dict(_MARKED.findall((DOCS / "detection.md").read_text(encoding="utf-8")))


def test_the_page_of_rules_is_what_the_rules_say_of_themselves() -> None:
    written = (DOCS / "rules.md").read_text(encoding="utf-8")

    assert written == rules_page(rulebook()), "run `sessiontrail rules page > docs/rules.md`"


def test_the_requests_of_the_page_can_be_played_to_its_answer() -> None:
    playing = Playing(rulebook())
    lines = examples()["requests"].encode().splitlines()

    answers = [playing.play_bytes(number, line) for number, line in enumerate(lines, 1)]

    said = [played_line(number, answer) for number, answer in enumerate(answers, 1)]
    third = msgspec.json.decode(said[2])
    told = msgspec.json.decode(examples()["an answer"])
    assert third.keys() == told.keys()
    assert (third["line"], third["result"]) == (told["line"], told["result"])
    (finding,) = [each for each in third["findings"] if each["rule"] == "refresh-token-reuse"]
    assert finding.keys() == told["findings"][0].keys()
    assert finding["response"] == told["findings"][0]["response"]


def test_the_policy_of_the_page_can_be_used() -> None:
    played = read_policy(examples()["a policy"].encode(), rulebook())

    assert set(played.detection.rules) == {"impossible-travel", "refresh-cadence", "device-change"}
    assert len(played.detection.entries) == 3


def test_every_result_is_on_the_page() -> None:
    page = (DOCS / "detection.md").read_text(encoding="utf-8")

    for result in Result:
        assert f"| `{result.value}` |" in page


@pytest.mark.parametrize("member", ["user", "family", "generation", "verdict", "hints", "geo"])
def test_every_member_of_a_request_is_on_the_page(member: str) -> None:
    assert f"| `{member}` |" in (DOCS / "detection.md").read_text(encoding="utf-8")


def test_the_example_names_every_kind_of_request() -> None:
    kinds = {type(read_request(line)) for line in examples()["requests"].encode().splitlines()}

    assert len(kinds) == 5
