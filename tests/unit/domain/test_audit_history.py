"""What auditors are shown of an event's data."""

import msgspec

from domain.audit_history import shown_data
from tests.unit.domain.golden import EXAMPLES


def test_no_event_type_shows_a_hash_or_a_salt() -> None:
    for examples in EXAMPLES.values():
        for event in examples:
            data = msgspec.json.encode(event)
            shown = shown_data(event.TYPE, event.SCHEMA_VERSION, data)
            assert shown is not None
            hidden = msgspec.json.decode(data).keys() - shown.keys()
            assert hidden <= {"secret_hash", "salt"}
            assert not [name for name in shown if "secret" in name or "salt" in name]


def test_of_a_type_or_version_that_is_not_known_nothing_is_shown() -> None:
    assert shown_data("FromTheFuture", 1, b'{"token":"x"}') is None
    assert shown_data("SessionEnded", 2, b'{"token":"x"}') is None
