"""What the console calls the members of closed sets: every one has words."""

from enum import StrEnum

import pytest

from api.console.words import WORDS
from domain.alert import AlertStatus
from domain.detection import Outcome, Response, Verdict
from domain.events.families import EndReason
from domain.events.users import Role
from tests.unit.domain.golden import current_names


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        (AlertStatus, "status"),
        (Verdict, "verdict"),
        (Response, "response"),
        (Outcome, "outcome"),
        (EndReason, "reason"),
        (Role, "role"),
    ],
)
def test_every_member_of_a_closed_set_has_words(members: type[StrEnum], kind: str) -> None:
    assert set(members) - set(WORDS[kind]) == set()


def test_every_event_has_words() -> None:
    assert {cls.TYPE for cls in current_names().values()} - set(WORDS["event"]) == set()
