"""Events of the reveals' stream: who looked at whose personal data, and why."""

from typing import ClassVar

from domain.audit_history import HistoryScope
from domain.events.registry import Event, register


@register
class PersonalDataRevealed(Event, frozen=True, kw_only=True):
    """Somebody had the personal data in a history opened. It is appended before they see it.

    The subject of the envelope is whose data it was. Personal: ``comment``, the reason they gave.

    Attributes:
        scope: What the history was of.
        scope_id: The id of that.
    """

    TYPE: ClassVar[str] = "PersonalDataRevealed"

    scope: HistoryScope
    scope_id: str
