"""Events of the imports' stream: what was taught from elsewhere."""

from typing import ClassVar

from domain.events.registry import Event, register


@register
class SignInsImported(Event, frozen=True, kw_only=True):
    """Earlier sign-ins, kept elsewhere, were learned from before or beside those here.

    Attributes:
        sha256: Of the file, in hexadecimal: the same file is not learned from twice.
        lines: Lines of the file.
        sign_ins: Sign-ins that were learned from.
        users: Users that they were of.
        registered: Of these, who was not known before.
    """

    TYPE: ClassVar[str] = "SignInsImported"

    sha256: str
    lines: int
    sign_ins: int
    users: int
    registered: int
