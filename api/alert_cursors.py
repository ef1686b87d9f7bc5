"""Places in a list of alerts, as the opaque text that clients pass back."""

import base64
import binascii

import msgspec

from api.problems import ProblemError, ProblemKind
from domain.alert_lists import AlertPlace
from domain.detection import Severity
from domain.ids import parse_uuid


def cursor_of(place: AlertPlace) -> str:
    """The text that stands for a place."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode("ascii").rstrip("=")


def place_of(cursor: str) -> AlertPlace:
    """The place that a text stands for.

    Raises:
        ProblemError: It is none that we gave out.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        place = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=AlertPlace)
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise _not_a_cursor() from error
    if (
        not 0 <= place.severity_rank < len(Severity)
        or place.last_at.tzinfo is None
        or parse_uuid(place.alert_id) != place.alert_id
    ):
        raise _not_a_cursor()
    return place


def _not_a_cursor() -> ProblemError:
    return ProblemError(ProblemKind.INVALID_INPUT, "after is not a cursor of this list")
