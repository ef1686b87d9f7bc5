"""What reading JSON raises where it is none of ours."""

from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.MsgspecError, RecursionError)
"""It is no JSON or does not fit the type; or it is nested deeper than Python's stack."""
