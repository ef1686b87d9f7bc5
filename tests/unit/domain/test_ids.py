"""Identifiers: their text, their bytes, and the streams that they name."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ids import family_stream, key_stream, parse_uuid, user_stream, uuid_bytes, uuid_text
from tests.unit.domain.builders import FAMILY_ID, USER_ID


@given(uuid=st.uuids())
def test_a_uuid_has_one_text_and_one_row_of_bytes(uuid: UUID) -> None:
    assert uuid_bytes(str(uuid)) == uuid.bytes
    assert uuid_text(uuid.bytes) == str(uuid)
    assert parse_uuid(str(uuid)) == parse_uuid(str(uuid).upper()) == str(uuid)


@pytest.mark.parametrize(
    "text",
    [
        "",
        FAMILY_ID.replace("-", ""),
        FAMILY_ID[:-1],
        FAMILY_ID + "0",
        "{" + FAMILY_ID + "}",
        "urn:uuid:" + FAMILY_ID,
        "g" + FAMILY_ID[1:],
        "é" * 36,
        "-" * 36,
    ],
)
def test_what_is_no_uuid_is_none(text: str) -> None:
    assert parse_uuid(text) is None


def test_a_stream_is_named_after_what_it_is_about() -> None:
    assert family_stream(FAMILY_ID) == f"family-{FAMILY_ID}"
    assert user_stream(USER_ID) == f"user-{USER_ID}"
    assert key_stream("abc") == "key-abc"
