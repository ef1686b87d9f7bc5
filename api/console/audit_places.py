"""Places in the log as the audit pages show them: its newest head, and leaves by moment."""

from dataclasses import dataclass
from datetime import datetime

from api.ports import Services
from audit.checkpoints import flaw_of_head
from audit.signed_notes import Verifier
from audit.tree_ports import TreeReader
from domain.as_of import AsOf, AtInstant, AtLeaf
from domain.events.canonical import from_microseconds, microseconds
from domain.transparency import TreeHead


@dataclass(frozen=True, slots=True)
class NewestHead:
    """The newest signed head.

    Attributes:
        head: The head.
        signed_until: When the last event under it happened; None where it is archived.
        key: The public key that it was checked with; None where this service knows none.
        flaw: What is wrong with it; None where nothing is.
    """

    head: TreeHead
    signed_until: datetime | None
    key: Verifier | None
    flaw: str | None


async def newest_head(services: Services) -> NewestHead | None:
    """The newest signed head; None where nothing was ever signed."""
    head = await services.tree.newest_head()
    if head is None or head.size == 0:
        return None
    last = await services.tree.entries(head.size - 1, 1)
    key = services.log_key()
    return NewestHead(
        head, instant(last[0].occurred_at) if last else None, key, flaw_of_head(head, key)
    )


async def leaf_of(tree: TreeReader, moment: AsOf, size: int) -> int | None:
    """Which leaf is the last at a moment; None where there is none.

    Args:
        tree: The stored tree.
        moment: The moment.
        size: Of the newest tree.
    """
    if isinstance(moment, AtLeaf):
        return moment.leaf if moment.leaf < size else None
    if not isinstance(moment, AtInstant):
        return await tree.leaf_at(moment.position)
    last = await tree.last_by(microseconds(moment.at))
    return None if last is None else min(last, size - 1)


def instant(occurred_at: int) -> datetime | None:
    """When an event says that it happened; None where there is no such instant.

    No build of ours writes that: the event was altered, and its proof will say so.

    Args:
        occurred_at: Microseconds since 1970.
    """
    try:
        return from_microseconds(occurred_at)
    except OverflowError:
        return None
